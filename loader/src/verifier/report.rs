//! The report that Linux 7.3 adds to the log of a program that it refuses (kernel/bpf/diagnostics.c).

/// What the kernel says by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// What kind of rule was broken, and how: `Register Type Safety: Unreadable register`.
    pub title: String,
    /// Why.
    pub reason: String,
    /// The slot at which it was broken.
    pub slot: Option<usize>,
    /// What led there: instructions by slot, and what each did.
    pub path: Vec<(usize, String)>,
    /// What to do.
    pub suggestion: String,
}

const START: &str = "\nVerification failed: ";
/// What stands before what is said of an instruction: under its source line, or under its number.
const POINTER: &str = "^-- ";

/// What part of the report a line is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Reason,
    At,
    Path,
    Suggestion,
    Other,
}

impl Report {
    /// The log as all kernels write it, up to the report that Linux 7.3 adds, and that with the counts that follow.
    pub(super) fn split(log: &str) -> (&str, Option<(Self, &str)>) {
        match log.split_once(START) {
            Some((log, report)) => (log, Some((Self::read(report), report))),
            None => (log, None),
        }
    }

    fn read(text: &str) -> Self {
        let mut lines = text.lines();
        let mut report = Self { title: lines.next().unwrap_or_default().to_owned(), ..Self::default() };
        let mut part = Part::Other;
        let mut said: Option<String> = None;
        for line in lines {
            match line {
                "Reason:" => part = Part::Reason,
                "At:" => part = Part::At,
                "Causal path:" => part = Part::Path,
                "Suggestion:" => part = Part::Suggestion,
                _ if line.starts_with("processed ") => break,
                _ if !line.starts_with(' ') && line.ends_with(':') => part = Part::Other,
                _ => {}
            }
            let text = line.trim();
            let is_text = line.starts_with("  ");
            match part {
                Part::Reason if is_text => join(&mut report.reason, text),
                Part::Suggestion if is_text => join(&mut report.suggestion, text),
                Part::At | Part::Path => {
                    let slot = text.strip_prefix(">>> ").and_then(marked);
                    if let Some((_, words)) = line.split_once(POINTER) {
                        said = Some(words.trim().to_owned());
                    } else if let (Some(slot), true) = (slot, said.is_some()) {
                        match part {
                            Part::At => report.slot = Some(slot),
                            _ => report.path.push((slot, said.clone().unwrap_or_default())),
                        }
                        said = None;
                    } else if let (Some(said), Some(more)) = (&mut said, text.strip_prefix('|')) {
                        join(said, more.trim());
                    } else if part == Part::At && report.slot.is_none() {
                        report.slot = text.strip_prefix("insn ").and_then(|slot| slot.parse().ok());
                    }
                }
                _ => {}
            }
        }
        report
    }
}

/// The slot of `5 | (85) call ...`; source lines look alike, but for the code.
fn marked(line: &str) -> Option<usize> {
    let (slot, insn) = line.split_once(" | (")?;
    insn.get(2..4).filter(|end| *end == ") ")?;
    slot.trim().parse().ok()
}

fn join(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push(' ');
    }
    text.push_str(more);
}
