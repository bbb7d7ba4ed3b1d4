//! What a tool is, and the part of its life that all of them share: choosing a probe, loading, attaching.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bpfkit_loader::confine::{self, Capabilities};
use bpfkit_loader::{Attach, Feature, Link, MapSpec, Maps, Origin, PerfBuffer, Prog, ProgSpec, Sample, Target};

use crate::dump::{Subject, View};
use crate::error::Chain;
use crate::options::Options;
use crate::output::Output;
use crate::session::Session;
use crate::{Error, TaskFilter, event, pids, report};

/// A tool with its arguments.
pub trait Tool {
    /// The options that every tool has.
    fn options(&self) -> &Options;

    /// The programs that it would attach on this kernel: by the probe that was asked for, else by the first that the kernel has.
    ///
    /// # Errors
    /// What a program needs and the target cannot tell, such as the record of a tracepoint.
    fn programs(&self, target: &Target) -> Result<Vec<ProgSpec>, Error>;

    /// The maps that these programs use.
    ///
    /// # Errors
    /// As [`Tool::programs`].
    fn maps(&self, target: &Target) -> Result<Vec<MapSpec>, Error>;

    /// Attaches the programs and prints what they see until it is time to stop.
    ///
    /// # Errors
    /// Whatever keeps it from attaching or from printing.
    fn trace(&self, target: Target, output: &mut Output) -> Result<(), Error>;
}

/// Runs a tool, or prints its programs where that was asked for.
///
/// # Errors
/// As [`Tool::programs`] and [`Tool::trace`].
pub fn run(tool: &dyn Tool, output: &mut Output) -> Result<(), Error> {
    let target = tool.options().target()?;
    if tool.options().ebpf {
        return View::default().show(&Subject::of(tool, &target)?, output);
    }
    pids::warn(&target);
    tool.trace(target, output)
}

/// Maps as programs see them: with the counters of what could not be sent where there are rings, and those of a filter.
pub fn with_filter(maps: Vec<MapSpec>, filter: &TaskFilter) -> Vec<MapSpec> {
    let mut maps = with_unsent(maps);
    maps.extend(filter.map_specs());
    maps
}

/// With the counters of what could not be sent, where there are rings.
fn with_unsent(mut maps: Vec<MapSpec>) -> Vec<MapSpec> {
    if maps.iter().any(|map| map.name == "events") {
        maps.push(event::unsent());
    }
    maps
}

/// A way to see what a tool is after.
pub trait Probe: clap::ValueEnum + Copy {
    /// What the kernel must have for it.
    fn feature(self) -> Option<Feature>;

    /// What it is called on the command line.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// The probe that was asked for, or the first that a kernel has; the last one where it has none.
pub fn likely<P: Probe>(asked: Option<P>, target: &Target) -> Option<P> {
    let has = |probe: &&P| probe.feature().is_none_or(|feature| target.has(feature));
    asked.or_else(|| P::value_variants().iter().find(has).or(P::value_variants().last()).copied())
}

/// Attaches by the probe that was asked for, or by the first that works, in the order of the enumeration.
///
/// # Errors
/// Each probe that was tried, and why it failed; at once where another probe would not help.
pub fn choose<P: Probe>(
    asked: Option<P>,
    options: &Options,
    target: &Target,
    attach: impl Fn(P) -> Result<Attached, Error>,
) -> Result<Attached, Error> {
    let started = Instant::now();
    let attempt = |probe: P| {
        probe.feature().map_or(Ok(()), |feature| target.require(feature))?;
        let attached = attach(probe)?;
        attached.tell(options, target, &probe.name(), started);
        Ok(attached)
    };
    if let Some(probe) = asked {
        return attempt(probe);
    }
    let mut tried = Vec::new();
    for &probe in P::value_variants() {
        match attempt(probe) {
            Err(error) if !error.is_final() => {
                if options.verbose {
                    report::say(format_args!("not by {}: {}", probe.name(), Chain(&error)));
                }
                tried.push((probe.name(), Box::new(error)));
            }
            result => return result,
        }
    }
    Err(Error::NoProbe(tried))
}

/// Programs at work. Fields are dropped in this order: nothing runs any more when its maps go.
#[derive(Debug)]
pub struct Attached {
    /// What keeps the programs attached.
    pub links: Vec<Link>,
    /// The rings of the map `events`, where there is one.
    pub rings: Option<PerfBuffer>,
    /// All maps.
    pub maps: Maps,
    /// What reading takes beside the maps and rings.
    pub keep: Capabilities,
}

impl Attached {
    /// Makes maps; those of the filters may be there already. Nothing is attached yet.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn prepare(specs: Vec<MapSpec>, mut maps: Maps, target: &Target, options: &Options) -> Result<Self, Error> {
        for spec in with_unsent(specs) {
            maps.create(&spec, target)?;
        }
        let mut rings = None;
        if let (Some(events), Some(unsent)) = (maps.get("events"), maps.get("unsent")) {
            let rings = rings.insert(PerfBuffer::open(events, options.rings())?);
            rings.watch(unsent)?;
        }
        Ok(Self { links: Vec::new(), rings, maps, keep: Capabilities::NONE })
    }

    /// Loads programs and attaches them, in their order, once all are loaded; but what watches or replaces a function of one of
    /// them, which comes after it, is attached first, so that no call of the function is missed. On failure none of them stays.
    ///
    /// # Errors
    /// What the verifier says, and each way of attaching that was tried.
    pub fn attach(&mut self, programs: &[ProgSpec], target: &Target) -> Result<(), Error> {
        let mut loaded = load(programs, target, &self.maps)?;
        loaded.sort_by_key(|prog| prog.spec().attach.onto().is_none());
        let links = loaded.into_iter().map(|program| program.attach(target)).collect::<Result<Vec<_>, _>>()?;
        self.links.extend(links);
        Ok(())
    }

    /// Says with `-v` where the types came from, how the programs were attached, and that they are.
    pub fn tell(&self, options: &Options, target: &Target, how: &str, started: Instant) {
        if let Some((source, doubt)) = target.btf_source().and_then(|source| Some((source, source.doubt.as_ref()?))) {
            report::say(format_args!("{} may have the types of another kernel: {doubt}", source.place));
        }
        if options.verbose {
            if let Some(source) = target.btf_source() {
                report::say(format_args!("the kernel's types are {source}"));
            }
            for structure in target.calibrated_structures() {
                report::say(format_args!(
                    "there are no types, so struct {structure} was looked into to find its members"
                ));
            }
            tell_found(&self.links);
            self.links.iter().for_each(report::say);
            report::say(format_args!("attached by {how} after {:.1} ms", started.elapsed().as_secs_f64() * 1e3));
        }
    }

    /// Gives up what only attaching takes: capabilities, and all system calls but those of reading. Links that were made are
    /// released without.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn confine(&self, options: &Options) -> Result<(), Error> {
        let confined = confine::to_reading(self.maps.iter(), self.rings.as_ref(), self.keep)
            .map_err(|error| Error::Io("cannot give up privileges".to_owned(), error))?;
        if options.verbose {
            report::say(confined);
        }
        Ok(())
    }

    /// Gives up what only attaching takes, and prints samples until it is time to stop. How many the kernel dropped because a ring
    /// was full.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn read(
        &mut self,
        session: &mut Session,
        options: &Options,
        output: &mut Output,
        print: impl FnMut(&Sample<'_>, &mut Output) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        output.flush()?;
        self.confine(options)?;
        match &mut self.rings {
            Some(rings) => session.run(rings, options.duration, output, print).map(|accounts| accounts.lost),
            None => session.idle(options.duration, output).map(|()| 0),
        }
    }

    /// Detaches everything, in the reverse order of attaching; maps stay. How often the kernel could not run a program.
    ///
    /// For each uprobe the kernel waits until nobody can be in it any more, one after the other: up to tenths of a second.
    pub fn detach(&mut self) -> u64 {
        let missed = Link::missed_by(&self.links);
        // Entries were attached last and go first, so that what began before is still seen to end: each takes the kernel a grace
        // period, in which much begins on a busy machine.
        while let Some(link) = self.links.pop() {
            drop(link);
        }
        missed
    }
}

/// Says where the numbers in the programs came from, a line for each origin.
pub fn tell_found(links: &[Link]) {
    let mut all = BTreeMap::<Origin, BTreeSet<&str>>::new();
    for (origin, what) in links.iter().flat_map(|link| link.prog().found()) {
        all.entry(*origin).or_default().insert(what);
    }
    for (origin, what) in all {
        let what: Vec<&str> = what.into_iter().collect();
        report::say(format_args!("offsets by {origin}: {}", what.join(", ")));
    }
}

/// Loads programs in their order; what belongs to a function of another one comes after that.
///
/// # Errors
/// What the verifier says.
fn load(programs: &[ProgSpec], target: &Target, maps: &Maps) -> Result<Vec<Prog>, Error> {
    let mut loaded: Vec<Prog> = Vec::new();
    for spec in programs {
        let onto = spec.attach.onto().and_then(|func| loaded.iter().find(|prog| prog.spec().name == func.program));
        loaded.push(onto.map_or_else(|| spec.load(target, maps), |onto| spec.load_onto(target, maps, onto))?);
    }
    Ok(loaded)
}

/// A tracepoint, by its category and name.
pub fn tracepoint(category: &str, name: &str) -> Attach {
    Attach::Tracepoint { category: category.to_owned(), name: name.to_owned() }
}

/// The entry of a kernel function.
pub fn kprobe(symbol: &str) -> Attach {
    Attach::Kprobe { symbol: symbol.to_owned(), offset: 0 }
}

/// The return of a kernel function.
pub fn kretprobe(symbol: &str) -> Attach {
    Attach::Kretprobe { symbol: symbol.to_owned() }
}
