//! What differs between two versions of a tool's programs, and why.

use bpfkit_asm::{Helper, Opcode};
use bpfkit_btf::Field;
use bpfkit_loader::{Feature, Filled, needs};

use super::Made;
use super::align::{Pair, align};
use crate::dump::listing::{Listing, Row};

/// How the rows of a line differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Not at all.
    Same,
    /// A jump to the same place, over more or fewer slots.
    Distance,
    /// They do not do the same.
    Changed,
    /// Only the first side has it.
    Removed,
    /// Only the second side has it.
    Added,
}

/// A line of the difference: rows of either side that belong together.
pub struct Line<'a> {
    /// How they differ.
    pub kind: Kind,
    /// The row of the first side.
    pub one: Option<&'a Row>,
    /// The row of the second side.
    pub two: Option<&'a Row>,
    /// Why they differ, where that is known. For rows that one side lacks it is said at the first of them.
    pub why: Option<String>,
}

/// A program of either side or both.
pub struct Difference<'a> {
    /// Its name.
    pub name: &'a str,
    /// On the first side.
    pub one: Option<&'a Listing>,
    /// On the second side.
    pub two: Option<&'a Listing>,
    /// Why one side lacks it, where that is known.
    pub why: Option<String>,
    /// The lines, where both sides have it.
    pub lines: Vec<Line<'a>>,
}

impl Difference<'_> {
    /// Whether both sides have the same bytes for it.
    pub fn is_same(&self) -> bool {
        self.one.is_some() && self.two.is_some() && self.lines.iter().all(|line| line.kind == Kind::Same)
    }
}

/// What one side's kernel has and the other's lacks, of what either was asked for when its programs were made.
pub fn decisive(one: &Made<'_>, two: &Made<'_>) -> Vec<(Feature, bool, bool)> {
    let mut features: Vec<Feature> = one.subject.target.answers().into_keys().collect();
    features.extend(two.subject.target.answers().into_keys());
    features.sort_unstable();
    features.dedup();
    let both =
        features.into_iter().map(|feature| (feature, one.subject.target.has(feature), two.subject.target.has(feature)));
    both.filter(|(_, one, two)| one != two).collect()
}

/// All programs: those of the first side in its order, then those that only the second has.
pub fn differences<'a>(one: &'a Made<'_>, two: &'a Made<'_>) -> Vec<Difference<'a>> {
    let reasons = Reasons { one, two, decisive: decisive(one, two) };
    let mut differences = Vec::new();
    for listing in &one.listings {
        let other = two.listing(&listing.name);
        let lines = other.map_or_else(Vec::new, |other| reasons.lines(listing, other));
        let why = if other.is_none() { reasons.missing(&listing.name, true) } else { None };
        differences.push(Difference { name: &listing.name, one: Some(listing), two: other, why, lines });
    }
    for listing in two.listings.iter().filter(|listing| one.listing(&listing.name).is_none()) {
        let why = reasons.missing(&listing.name, false);
        differences.push(Difference { name: &listing.name, one: None, two: Some(listing), why, lines: Vec::new() });
    }
    differences
}

/// What reasons are found with.
struct Reasons<'a> {
    one: &'a Made<'a>,
    two: &'a Made<'a>,
    decisive: Vec<(Feature, bool, bool)>,
}

impl Reasons<'_> {
    /// Why one side has a program that the other lacks.
    fn missing(&self, name: &str, is_removed: bool) -> Option<String> {
        let has = if is_removed { self.one } else { self.two };
        let program = has.subject.programs.iter().find(|program| program.spec().name == name)?;
        let feature =
            program.spec().attach.feature().filter(|feature| self.decisive.iter().any(|(known, ..)| known == feature));
        feature.map(tell).or_else(|| self.general(is_removed))
    }

    /// The reason for what one side has more.
    fn general(&self, is_removed: bool) -> Option<String> {
        if !self.one.side.is_other_kernel && !self.two.side.is_other_kernel {
            let (here, there) = if is_removed { (self.one, self.two) } else { (self.two, self.one) };
            return match (here.side.flags.as_str(), there.side.flags.as_str()) {
                ("", "") => None,
                ("", flags) => Some(format!("not with `{flags}`")),
                (flags, _) => Some(format!("for `{flags}`")),
            };
        }
        match self.decisive.as_slice() {
            [(feature, ..)] if self.one.side.flags == self.two.side.flags => Some(tell(*feature)),
            _ => None,
        }
    }

    /// The lines of a program that both sides have.
    fn lines<'a>(&self, one: &'a Listing, two: &'a Listing) -> Vec<Line<'a>> {
        let pairs = align(&one.rows, &two.rows);
        // The slots of the second side that belong to those of the first, by which jumps are compared.
        let slots: Vec<(usize, usize)> = pairs
            .iter()
            .filter_map(|pair| match pair {
                Pair::Both(first, second) => Some((one.rows[*first].slot, two.rows[*second].slot)),
                _ => None,
            })
            .collect();
        let mut lines: Vec<Line<'a>> = pairs
            .into_iter()
            .map(|pair| match pair {
                Pair::First(first) => Line { kind: Kind::Removed, one: one.rows.get(first), two: None, why: None },
                Pair::Second(second) => Line { kind: Kind::Added, one: None, two: two.rows.get(second), why: None },
                Pair::Both(first, second) => {
                    let (first, second) = (&one.rows[first], &two.rows[second]);
                    let (kind, why) = self.compare(first, second, &slots);
                    Line { kind, one: Some(first), two: Some(second), why }
                }
            })
            .collect();
        let mut begin = 0;
        while begin < lines.len() {
            let kind = lines[begin].kind;
            let len = lines[begin..].iter().take_while(|line| line.kind == kind).count();
            if matches!(kind, Kind::Removed | Kind::Added) {
                let rows: Vec<&Row> =
                    lines[begin..begin + len].iter().filter_map(|line| line.one.or(line.two)).collect();
                lines[begin].why = self.piece(&rows, kind == Kind::Removed);
            }
            begin += len;
        }
        lines
    }

    /// Why one side has a piece of code that the other lacks: what its instructions need, if the other has not got it.
    fn piece(&self, rows: &[&Row], is_removed: bool) -> Option<String> {
        let lacking = if is_removed { self.two } else { self.one };
        let form = rows.iter().filter_map(|row| needs(row.insn)).find(|feature| !lacking.subject.target.has(*feature));
        if let Some(feature) = form {
            return Some(tell(feature));
        }
        // A loop is written out for a kernel that takes none.
        let loops = rows.iter().any(|row| row.insn.jump().is_some() && row.to.is_some_and(|to| to <= row.slot));
        if loops && !lacking.subject.target.has(Feature::BoundedLoops) {
            return Some(tell(Feature::BoundedLoops));
        }
        let version = lacking.subject.target.version();
        let helper =
            rows.iter().filter_map(|row| row.helper).find(|helper| helper.since().is_some_and(|since| since > version));
        helper.map(came).or_else(|| self.general(is_removed))
    }

    /// How two rows that belong together differ, and why.
    fn compare(&self, one: &Row, two: &Row, slots: &[(usize, usize)]) -> (Kind, Option<String>) {
        let is_same_code = (one.insn, one.second) == (two.insn, two.second);
        if is_same_code && one.text == two.text && is_same_hole(one.filled.as_ref(), two.filled.as_ref()) {
            return (Kind::Same, None);
        }
        let mut jump = two.insn;
        (jump.off, jump.imm) = (one.insn.off, one.insn.imm);
        let is_jump = one.insn.jump().is_some() || one.insn.refers_to_function();
        let is_same_imm = one.insn.jump().is_none() || one.insn.code == Opcode::JA32 || one.insn.imm == two.insn.imm;
        if is_jump
            && jump == one.insn
            && is_same_imm
            && one.to.is_some_and(|to| two.to.is_some_and(|other| slots.contains(&(to, other))))
        {
            return (Kind::Distance, None);
        }
        let why = match (&one.filled, &two.filled) {
            (Some(Filled::Offset(first)), Some(Filled::Offset(second))) if first.path != second.path => {
                Some(format!("{} is called {} there", first.path, second.path))
            }
            (Some(Filled::Offset(first)), Some(Filled::Offset(second))) if first.offset != second.offset => {
                Some(format!("{} moved: byte {} -> {}", first.path, first.offset, second.offset))
            }
            (Some(Filled::Offset(first)), Some(Filled::Offset(second))) if is_same_code => {
                Some(format!("{} has another type: {} -> {}", first.path, first.type_name, second.type_name))
            }
            (Some(Filled::Size(first)), Some(Filled::Size(second))) => {
                Some(format!("{} has another size: {} -> {} bytes", first.path, first.size, second.size))
            }
            (Some(Filled::Context { word, offset }), Some(Filled::Context { offset: other, .. })) => {
                Some(format!("`{word}` of the context moved: byte {offset} -> {other}"))
            }
            _ => self.operation(one, two),
        };
        // The bytes are what counts: another name or type of the same member changes nothing.
        (if is_same_code { Kind::Same } else { Kind::Changed }, why)
    }

    /// Why the operation differs.
    fn operation(&self, one: &Row, two: &Row) -> Option<String> {
        if let (Some(first), Some(second)) = (one.helper, two.helper) {
            let newer = if first.since() > second.since() { first } else { second };
            let split = [
                Helper::PROBE_READ_KERNEL,
                Helper::PROBE_READ_KERNEL_STR,
                Helper::PROBE_READ_USER,
                Helper::PROBE_READ_USER_STR,
            ];
            let decided =
                if split.contains(&newer) { format!("; {}", tell(Feature::ProbeReadKernel)) } else { String::new() };
            let name = |helper: Helper| helper.name().unwrap_or("unknown");
            return Some(format!("{} -> {} of Linux {}{decided}", name(first), name(second), newer.since()?));
        }
        if one.insn.code != two.insn.code {
            let form = [one, two].into_iter().filter_map(|row| needs(row.insn));
            let feature = form.into_iter().find(|feature| self.decisive.iter().any(|(known, ..)| known == feature));
            return feature.map(tell);
        }
        if one.insn.off != two.insn.off {
            return Some(format!("another place: {:+} -> {:+}", one.insn.off, two.insn.off));
        }
        if (one.insn.imm, one.second) != (two.insn.imm, two.second) {
            return Some(format!("another constant: {} -> {}", one.insn.imm, two.insn.imm));
        }
        None
    }
}

/// Whether the same was filled in. The numbers of types differ from kernel to kernel, and mean nothing.
fn is_same_hole(one: Option<&Filled>, two: Option<&Filled>) -> bool {
    match (one, two) {
        (Some(Filled::Offset(one)), Some(Filled::Offset(two))) | (Some(Filled::Size(one)), Some(Filled::Size(two))) => {
            let known =
                |field: &Field| (field.path.clone(), field.offset, field.size, field.bits, field.type_name.clone());
            known(one) == known(two)
        }
        _ => one == two,
    }
}

/// The feature that decided.
fn tell(feature: Feature) -> String {
    format!("decided by {} (Linux {})", feature.slug(), feature.since())
}

fn came(helper: Helper) -> String {
    let since = helper.since().map_or(String::new(), |since| format!(" came with Linux {since}"));
    format!("{}{since}", helper.name().unwrap_or("the helper"))
}
