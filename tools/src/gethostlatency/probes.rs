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
}

impl<'a> Probes<'a> {
    pub fn new(args: &'a Args, target: Target) -> Self {
        let tasks = args.filter.pid.map_or(Tasks::All, Tasks::Process);
        Self { args, target, tasks, loaded: Vec::new() }
    }

    /// Attaches to the functions of a library; those that it lacks are no error. Programs are loaded when a library first has their
    /// function.
    ///
    /// # Errors
    /// Where none could be attached, why the first could not; want of privilege at once.
    pub fn attach(&mut self, libc: &Libc, maps: &Maps, links: &mut Vec<Link>) -> Result<(), Error> {
        let before = links.len();
        let mut problems = Vec::new();
        for symbol in &libc.functions {
            match self.attach_one(libc, symbol, maps) {
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
            for (how, why) in new.iter().flat_map(|link| link.tried().first()).take(1) {
                report::say(format_args!("not by {how}: {why}"));
            }
        }
        Ok(())
    }

    fn attach_one(&mut self, libc: &Libc, symbol: &Symbol, maps: &Maps) -> Result<[Link; 2], Error> {
        let what = || format!("cannot probe {} of {}", symbol.name, libc.elf.name());
        if symbol.is_indirect {
            let why = "the library chooses the function to call when it is first called";
            return Err(Error::About(what(), Box::new(Error::Request(why.to_owned()))));
        }
        let function = Function::ALL.into_iter().find(|function| function.name() == symbol.name);
        let function = function.ok_or_else(|| Error::Request(what()))?;
        let (path, offset) = (libc.elf.place(), symbol.offset);
        let (entry, at_return) = (Attach::Uprobe { path: path.clone(), offset }, Attach::Uretprobe { path, offset });
        let [ret_prog, entry_prog] = self.load(function, maps)?;
        let attach = |prog: &Prog, place: &Attach| prog.attach_to(place, self.tasks, &self.target);
        // The return first, so that nothing is remembered that nobody collects.
        let ret = attach(&ret_prog, &at_return);
        let pair = ret.and_then(|ret| Ok([ret, attach(&entry_prog, &entry)?]));
        pair.map_err(|error| match error {
            error if error.is_permission() => error.into(),
            error => Error::About(what(), Box::new(error.into())),
        })
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
