//! The programs that are loaded, and the libraries that they are attached to.

use bpfkit_loader::{Attach, Link, Maps, Prog, Symbol, Target, Tasks};

use super::Args;
use super::function::Function;
use crate::error::Chain;
use crate::libcs::Libc;
use crate::{Error, report};

/// The programs that are loaded, and the libraries that they are attached to.
pub struct Probes<'a> {
    args: &'a Args,
    target: Target,
    tasks: Tasks,
    loaded: Vec<(Function, [Prog; 2])>,
    /// Those of all functions.
    all: Option<[Prog; 2]>,
}

impl<'a> Probes<'a> {
    pub fn new(args: &'a Args, target: Target) -> Self {
        let tasks = args.filter.pid.map_or(Tasks::All, Tasks::Process);
        Self { args, target, tasks, loaded: Vec::new(), all: None }
    }

    /// Attaches to the functions of a library; those that it lacks are no error. Programs are loaded when a library first has their
    /// function.
    ///
    /// # Errors
    /// Where none could be attached, why the first could not; want of privilege at once.
    pub fn attach(&mut self, libc: &Libc, maps: &Maps, links: &mut Vec<Link>) -> Result<(), Error> {
        let before = links.len();
        let mut problems = Vec::new();
        let (mut is_together, mut not_together) = (false, None);
        if self.args.takes_all(&self.target) {
            match self.attach_all(libc, maps) {
                Ok(pair) => {
                    links.extend(pair);
                    is_together = true;
                }
                Err(error @ Error::About(..)) => not_together = Some(error),
                Err(error) => return Err(error),
            }
        }
        for symbol in &libc.functions {
            let result = match symbol.is_indirect {
                true => {
                    let why = "the library chooses the function to call when it is first called";
                    Err(unprobed(libc, &symbol.name, Error::Request(why.to_owned())))
                }
                false if is_together => continue,
                false => self.attach_one(libc, symbol, maps),
            };
            match result {
                Ok(pair) => links.extend(pair),
                Err(error @ Error::About(..)) => problems.push(error),
                // A program that is refused, or want of privilege: nothing else would work either.
                Err(error) => return Err(error),
            }
        }
        let new = &links[before..];
        let mut problems = problems.into_iter();
        if new.is_empty() {
            let none = || Error::Request(format!("{} has no function to probe", libc.elf.name()));
            return Err(problems.next().unwrap_or_else(none));
        }
        problems.for_each(|error| report::say(Chain(&error)));
        if self.args.options.verbose {
            let names: Vec<&str> = libc.functions.iter().map(|symbol| symbol.name.as_str()).collect();
            let how = new.first().map_or("", Link::how);
            report::say(format_args!("{}: {} by {how}", libc.elf.name(), names.join(", ")));
            if let Some(error) = not_together {
                report::say(Chain(&error));
            }
            for (how, why) in new.iter().flat_map(|link| link.tried().first()).take(1) {
                report::say(format_args!("not by {how}: {why}"));
            }
        }
        Ok(())
    }

    /// Attaches to all functions by one link, and to all returns by another.
    fn attach_all(&mut self, libc: &Libc, maps: &Maps) -> Result<[Link; 2], Error> {
        let cookie = |symbol: &Symbol| Function::named(&symbol.name).map(|function| function.number().into());
        let direct = libc.functions.iter().filter(|symbol| !symbol.is_indirect);
        let places: Vec<(u64, u64)> = direct.filter_map(|symbol| Some((symbol.offset, cookie(symbol)?))).collect();
        let [ret_prog, entry_prog] = match &self.all {
            Some(progs) => progs.clone(),
            None => {
                let [ret, entry] = self.args.programs_of_all(&self.target)?;
                let progs = [ret.load(&self.target, maps)?, entry.load(&self.target, maps)?];
                self.all.insert(progs).clone()
            }
        };
        let attach = |prog: &Prog, at_return| {
            let place = Attach::UprobeMulti { path: libc.elf.place(), places: places.clone(), at_return };
            prog.attach_to(&place, self.tasks, &self.target)
        };
        // The returns first, so that nothing is remembered that nobody collects.
        let pair = attach(&ret_prog, true).and_then(|ret| Ok([ret, attach(&entry_prog, false)?]));
        pair.map_err(|error| about(libc, "all functions", error))
    }

    fn attach_one(&mut self, libc: &Libc, symbol: &Symbol, maps: &Maps) -> Result<[Link; 2], Error> {
        let function = Function::named(&symbol.name);
        let function = function.ok_or_else(|| Error::Request(format!("{} is not known", symbol.name)))?;
        let (path, offset) = (libc.elf.place(), symbol.offset);
        let (entry, at_return) = (Attach::Uprobe { path: path.clone(), offset }, Attach::Uretprobe { path, offset });
        let [ret_prog, entry_prog] = self.load(function, maps)?;
        let attach = |prog: &Prog, place: &Attach| prog.attach_to(place, self.tasks, &self.target);
        // The return first, so that nothing is remembered that nobody collects.
        let ret = attach(&ret_prog, &at_return);
        let pair = ret.and_then(|ret| Ok([ret, attach(&entry_prog, &entry)?]));
        pair.map_err(|error| about(libc, &symbol.name, error))
    }

    fn load(&mut self, function: Function, maps: &Maps) -> Result<[Prog; 2], Error> {
        if let Some((_, progs)) = self.loaded.iter().find(|(known, _)| *known == function) {
            return Ok(progs.clone());
        }
        let [ret, entry] = self.args.programs_of(&self.target, function)?;
        let progs = [ret.load(&self.target, maps)?, entry.load(&self.target, maps)?];
        self.loaded.push((function, progs.clone()));
        Ok(progs)
    }
}

/// What was not probed. Want of privilege is the same for all that there is.
fn about(libc: &Libc, what: &str, error: bpfkit_loader::Error) -> Error {
    if error.is_permission() { error.into() } else { unprobed(libc, what, error.into()) }
}

fn unprobed(libc: &Libc, what: &str, error: Error) -> Error {
    Error::About(format!("cannot probe {what} of {}", libc.elf.name()), Box::new(error))
}
