//! `bpfkit features`: what a kernel has of BPF, as it answers when each thing is tried.

use std::collections::BTreeSet;

use bpfkit_asm::{Helper, Version};
use bpfkit_loader::{Answer, Feature, Group, MapType, ProgType, Target};
use serde::Serialize;

use crate::cli::Question;
use crate::output::Output;
use crate::{Error, Escaped};

/// What this kernel has of BPF: types of programs and maps, helpers, places, instructions, types
///
/// Each line is tried with the smallest program or map that needs it, and shows the version of Linux that brought it. What
/// cannot be tried, as without root, has a `?` and the number of a reason below. Another kernel's features are told by its version alone.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = JSON)]
pub struct Args {
    /// Ask for what has one of these names alone: features, types of programs and maps, helpers; everything without any
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Print what this version brought, not what the running kernel has
    #[arg(long, value_name = "VERSION")]
    pub kernel: Option<Version>,
    /// Ask for the helpers too whose use the kernel tells of in its log
    #[arg(long, conflicts_with = "kernel")]
    pub all: bool,
}

const JSON: &str = "\
JSON: an object with
  kernel         version, architecture, and whether it is running
  limits         instructions, stack and log_bytes: numbers; memory: \"cgroup\" or
                 \"rlimit\", who is charged
  features       an array; each has name, group (attach, isa, limits, btf,
                 commands), text, config (the options of the kernel's
                 configuration without which it lacks it) and an answer
  program_types  an array; each has name, number and an answer
  map_types      the same
  helpers        an array; each has name, number, an answer, and in
                 program_types the names of the types that may call it, null
                 where no running kernel was asked
Where names are given, the arrays hold what has them.
An answer is since, the version of Linux that brought it; has, \"yes\", \"no\" or
\"unknown\"; and why, a text where it is unknown, else null. Members may be added,
and none will change its meaning.";

/// The column of the version.
const NAME: usize = 26;
/// How long a line of names may be.
const WIDTH: usize = 100;

/// An answer as JSON has it.
#[derive(Debug, Serialize)]
struct Told {
    since: Option<String>,
    has: &'static str,
    why: Option<String>,
}

impl Told {
    fn new(since: Option<Version>, answer: Answer) -> Self {
        let (has, why) = match answer {
            Answer::Yes => ("yes", None),
            Answer::No => ("no", None),
            Answer::Unknown(why) => ("unknown", Some(why)),
        };
        Self { since: since.map(|since| since.to_string()), has, why }
    }
}

/// The names that are asked for, all where there are none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a>(&'a [String]);

impl<'a> Wanted<'a> {
    /// These names.
    ///
    /// # Errors
    /// One that nothing has.
    pub fn new(names: &'a [String]) -> Result<Self, Error> {
        for name in names {
            let mut known = known();
            if !known.any(|known| is_called(known, name)) {
                let near = bpfkit_asm::suggest(name, self::known());
                let meant = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                let name = Escaped(name.as_bytes());
                return Err(Error::Request(format!("there is no feature, type or helper `{name}`{meant}")));
            }
        }
        Ok(Self(names))
    }

    fn is_all(self) -> bool {
        self.0.is_empty()
    }

    /// Whether what has this name is asked for.
    fn has(self, known: &str) -> bool {
        self.is_all() || self.0.iter().any(|name| is_called(known, name))
    }
}

/// Helpers are called by their names with and without `bpf_`.
fn is_called(known: &str, name: &str) -> bool {
    known == name || known.strip_prefix("bpf_") == Some(name)
}

/// Every name that something has.
fn known() -> impl Iterator<Item = &'static str> {
    let features = Feature::ALL.iter().map(|feature| feature.slug());
    let progs = ProgType::ALL.iter().map(|&(_, name, _)| name);
    let maps = MapType::ALL.iter().map(|&(_, name, _)| name);
    features.chain(progs).chain(maps).chain(Helper::ALL.iter().map(|&(_, name, _)| name))
}

/// Why answers are not known, each once, as many have the same reason.
#[derive(Default)]
struct Reasons<'a>(Vec<&'a str>);

impl<'a> Reasons<'a> {
    /// The number of a reason, from 1.
    fn number(&mut self, why: &'a str) -> usize {
        let place = self.0.iter().position(|known| *known == why).unwrap_or_else(|| {
            self.0.push(why);
            self.0.len() - 1
        });
        place + 1
    }

    /// A line of the report. What is not known has the number of its reason.
    fn line(&mut self, name: &str, told: &'a Told, text: &str) -> String {
        let mark = match &told.why {
            None => told.has.to_owned(),
            Some(why) => format!("?{}", self.number(why)),
        };
        let since = told.since.as_deref().unwrap_or_default();
        format!("  {name:<NAME$}{since:<7}{mark:<5}{text}").trim_end().to_owned()
    }
}

/// What a kernel has.
#[derive(Debug, Serialize)]
pub struct Report {
    kernel: Kernel,
    limits: Limits,
    features: Vec<FeatureRow>,
    program_types: Vec<KindRow>,
    map_types: Vec<KindRow>,
    helpers: Vec<HelperRow>,
}

#[derive(Debug, Serialize)]
struct Kernel {
    version: String,
    arch: &'static str,
    running: bool,
}

#[derive(Debug, Serialize)]
struct Limits {
    instructions: u32,
    stack: u32,
    log_bytes: u32,
    memory: &'static str,
}

#[derive(Debug, Serialize)]
struct FeatureRow {
    #[serde(skip)]
    feature: Feature,
    name: &'static str,
    group: &'static str,
    text: String,
    config: &'static [&'static str],
    #[serde(flatten)]
    told: Told,
}

impl FeatureRow {
    /// What it is and, where a kernel lacks it that is new enough, what that may have been built without.
    fn text_for(&self, target: &Target) -> String {
        let has_types = || target.try_feature(Feature::KernelBtf) == Answer::Yes;
        let options: Vec<&str> = match self.told.has == "no" && target.version() >= self.feature.since() {
            true => self.config.iter().copied().filter(|option| *option != TYPES || !has_types()).collect(),
            false => Vec::new(),
        };
        if options.is_empty() { self.text.clone() } else { format!("{} (without {})", self.text, options.join(" or ")) }
    }
}

/// A kernel that was built with it shows its types.
const TYPES: &str = "CONFIG_DEBUG_INFO_BTF";

#[derive(Debug, Serialize)]
struct KindRow {
    name: &'static str,
    number: u32,
    #[serde(flatten)]
    told: Told,
}

#[derive(Debug, Serialize)]
struct HelperRow {
    name: &'static str,
    number: u32,
    #[serde(flatten)]
    told: Told,
    program_types: Option<Vec<&'static str>>,
}

impl Limits {
    fn of(target: &Target) -> Self {
        // BPF_MAXINSNS and BPF_COMPLEXITY_LIMIT_INSNS; MAX_BPF_STACK; bpf_verifier_log_attr_valid.
        Self {
            instructions: if target.has(Feature::LargePrograms) { 1_000_000 } else { 4096 },
            stack: 512,
            log_bytes: if target.has(Feature::LargeLogs) { u32::MAX >> 2 } else { u32::MAX >> 8 },
            memory: if target.has(Feature::CgroupMemory) { "cgroup" } else { "rlimit" },
        }
    }
}

impl Report {
    /// Asks a kernel for what is wanted, and for nothing else.
    pub fn of(target: &Target, wanted: Wanted<'_>, is_loud: bool) -> Self {
        let asked: Vec<Helper> =
            Helper::ALL.iter().filter(|(_, name, _)| wanted.has(name)).map(|&(helper, ..)| helper).collect();
        // Whether there is a helper depends on who may call it.
        let mut program_types: Vec<KindRow> = ProgType::ALL
            .iter()
            .filter(|(_, name, _)| !asked.is_empty() || wanted.has(name))
            .map(|&(kind, name, since)| KindRow {
                name,
                number: kind.0,
                told: Told::new(Some(since), target.try_prog_type(kind)),
            })
            .collect();
        let helpers = helpers(target, &asked, &program_types, is_loud);
        program_types.retain(|row| wanted.has(row.name));
        let map_types = MapType::ALL.iter().filter(|(_, name, _)| wanted.has(name)).map(|&(kind, name, since)| {
            KindRow { name, number: kind.0, told: Told::new(Some(since), target.try_map_type(kind)) }
        });
        let features = Feature::ALL.iter().filter(|feature| wanted.has(feature.slug())).map(|&feature| FeatureRow {
            feature,
            name: feature.slug(),
            group: feature.group().slug(),
            text: feature.to_string(),
            config: feature.config(),
            told: Told::new(Some(feature.since()), target.try_feature(feature)),
        });
        Self {
            kernel: Kernel {
                version: target.version().to_string(),
                arch: target.arch().name(),
                running: target.is_running(),
            },
            limits: Limits::of(target),
            features: features.collect(),
            map_types: map_types.collect(),
            helpers,
            program_types,
        }
    }

    fn print(&self, target: &Target, wanted: Wanted<'_>, output: &mut Output) -> Result<(), Error> {
        let Kernel { version, arch, running } = &self.kernel;
        let mut reasons = Reasons::default();
        let how = if *running { "asked by trying" } else { "by version alone" };
        output.line(&format!("Linux {version}, {arch}: {how}"))?;
        for group in Group::ALL {
            let rows: Vec<&FeatureRow> = self.features.iter().filter(|row| row.group == group.slug()).collect();
            if rows.is_empty() {
                continue;
            }
            output.line("")?;
            output.line(match group {
                Group::Attach => "Attaching",
                Group::Isa => "Instructions and calls",
                Group::Limits => "Limits",
                Group::Btf => "Types",
                _ => "Commands",
            })?;
            if *group == Group::Limits && wanted.is_all() {
                let Limits { instructions, stack, log_bytes, memory } = &self.limits;
                output.line(&format!("  {:<NAME$}{instructions}", "instructions"))?;
                output.line(&format!("  {:<NAME$}{stack} bytes for each function", "stack"))?;
                output.line(&format!("  {:<NAME$}{log_bytes} bytes", "verifier log"))?;
                output.line(&format!("  {:<NAME$}charged to the {memory}", "memory"))?;
            }
            for row in rows {
                output.line(&reasons.line(row.name, &row.told, &row.text_for(target)))?;
            }
        }
        for (title, rows) in [("Program types", &self.program_types), ("Map types", &self.map_types)] {
            if rows.is_empty() {
                continue;
            }
            output.line("")?;
            output.line(title)?;
            for row in rows {
                output.line(&reasons.line(row.name, &row.told, ""))?;
            }
        }
        if wanted.is_all() {
            self.print_all_helpers(output, &mut reasons)?;
        } else {
            self.print_helpers(output, &mut reasons)?;
        }
        for (number, why) in (1..).zip(&reasons.0) {
            output.line(&format!("?{number}: {}", Escaped(why.as_bytes())))?;
        }
        Ok(())
    }

    /// Each helper with who may call it.
    fn print_helpers<'a>(&'a self, output: &mut Output, reasons: &mut Reasons<'a>) -> Result<(), Error> {
        if !self.helpers.is_empty() {
            output.line("")?;
            output.line("Helpers, and who may call them")?;
        }
        for row in &self.helpers {
            output.line(&reasons.line(row.name, &row.told, ""))?;
            wrap(output, "    ", row.program_types.as_deref().unwrap_or_default())?;
        }
        Ok(())
    }

    /// First what all types may call, so that it need not be said of each; then what each may call beyond.
    fn print_all_helpers<'a>(&'a self, output: &mut Output, reasons: &mut Reasons<'a>) -> Result<(), Error> {
        output.line("")?;
        if !self.kernel.running {
            let has: Vec<&str> = self.helpers.iter().filter(|row| row.told.has == "yes").map(|row| row.name).collect();
            output.line(&format!("Helpers: {} of {}", has.len(), self.helpers.len()))?;
            return wrap(output, "  ", &has);
        }
        let asked: BTreeSet<&str> =
            self.helpers.iter().flat_map(|row| row.program_types.iter().flatten().copied()).collect();
        let is_common = |row: &HelperRow| row.program_types.as_ref().is_some_and(|types| types.len() == asked.len());
        let common: Vec<&str> = self.helpers.iter().filter(|row| is_common(row)).map(|row| row.name).collect();
        output.line(&format!("Helpers of all {} types of programs that have any: {}", asked.len(), common.len()))?;
        wrap(output, "  ", &common)?;
        for kind in self.program_types.iter().filter(|kind| asked.contains(kind.name)) {
            let calls = |row: &&HelperRow| row.program_types.iter().flatten().any(|name| *name == kind.name);
            let more: Vec<&str> =
                self.helpers.iter().filter(calls).filter(|row| !is_common(row)).map(|row| row.name).collect();
            output.line(&format!("Helpers of {} beside those: {}", kind.name, more.len()))?;
            wrap(output, "  ", &more)?;
        }
        let mut unknown: Vec<(usize, Vec<&str>)> = Vec::new();
        for row in &self.helpers {
            let Some(why) = &row.told.why else { continue };
            let number = reasons.number(why);
            match unknown.iter_mut().find(|(known, _)| *known == number) {
                Some((_, names)) => names.push(row.name),
                None => unknown.push((number, vec![row.name])),
            }
        }
        for (number, names) in unknown {
            output.line(&format!("Helpers that are not known, ?{number}: {}", names.len()))?;
            wrap(output, "  ", &names)?;
        }
        Ok(())
    }
}

/// Helpers, and who may call them. One that some type may call is there; one that none may is missing where all types that
/// the kernel has could be asked.
fn helpers(target: &Target, wanted: &[Helper], kinds: &[KindRow], is_loud: bool) -> Vec<HelperRow> {
    if wanted.is_empty() {
        return Vec::new();
    }
    // Programs that replace a function may call what those may that they replace it of.
    let known = kinds.iter().filter(|row| row.told.has != "no" && row.number != ProgType::EXT.0);
    let ask = |row: &KindRow| (row.name, target.try_helpers(ProgType(row.number), wanted, is_loud));
    // Of another kernel only the version is known, and of no type what it may call.
    let asked: Vec<(&'static str, Vec<Answer>)> =
        known.take(if target.is_running() { usize::MAX } else { 1 }).map(ask).collect();
    let row = |(index, helper): (usize, &Helper)| {
        let answers = || asked.iter().map(|(kind, answers)| (*kind, &answers[index]));
        let types: Vec<&'static str> =
            answers().filter(|(_, answer)| **answer == Answer::Yes).map(|(kind, _)| kind).collect();
        let answer = match answers().find(|(_, answer)| matches!(answer, Answer::Unknown(_))) {
            _ if !types.is_empty() => Answer::Yes,
            Some((_, unknown)) => unknown.clone(),
            None => Answer::No,
        };
        HelperRow {
            name: helper.name().unwrap_or_default(),
            number: helper.0,
            told: Told::new(helper.since(), answer),
            program_types: target.is_running().then_some(types),
        }
    };
    wanted.iter().enumerate().map(row).collect()
}

/// Names in lines that begin with this, without the prefix that all helpers have.
fn wrap(output: &mut Output, indent: &str, names: &[&str]) -> Result<(), Error> {
    let mut line = String::new();
    for name in names {
        let name = name.strip_prefix("bpf_").unwrap_or(name);
        if !line.is_empty() && line.len() + 1 + name.len() > WIDTH {
            output.line(&line)?;
            line.clear();
        }
        line.push_str(if line.is_empty() { indent } else { " " });
        line.push_str(name);
    }
    if line.is_empty() { Ok(()) } else { output.line(&line) }
}

impl Question for Args {
    fn answer(&self, output: &mut Output) -> Result<(), Error> {
        let wanted = Wanted::new(&self.names)?;
        let target = match self.kernel {
            Some(version) => Target::offline(None, version),
            None => Target::running()?,
        };
        let report = Report::of(&target, wanted, self.all);
        if self.json {
            output.json(&report)?;
        } else {
            report.print(&target, wanted, output)?;
        }
        output.flush()
    }
}
