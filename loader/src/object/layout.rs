//! Which function goes where in an object, and by what name.

use std::collections::HashSet;
use std::ops::Range;

use crate::Error;
use crate::func::{Func, Linkage, type_name};
use crate::linked::Linked;

/// Where libbpf looks for the functions that programs call.
pub(super) const TEXT: &str = ".text";

/// A function in its section.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    /// What the object calls it: an identifier of C that it has once.
    pub name: String,
    /// Its first slot in the section.
    pub start: usize,
    /// Its slots in the program.
    pub slots: Range<usize>,
    /// Whether others see it: the kernel enters there, or verifies it on its own.
    pub is_global: bool,
    pub func: &'a Func,
    /// The program that it is of, and the number of that.
    pub linked: &'a Linked,
    pub program: usize,
}

impl Part<'_> {
    /// Whether another function, which calls nothing, can be had for this one.
    fn is_same(&self, other: &Self) -> bool {
        let insns = |part: &Self| part.linked.insns()[part.slots.clone()].to_vec();
        let kind = |part: &Self| part.linked.spec().attach.context_of();
        let calls = self.linked.callees().range(self.slots.clone()).next().is_some();
        self.func == other.func && kind(self) == kind(other) && insns(self) == insns(other) && !calls
    }
}

/// A section with code. The first is [`TEXT`].
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub name: String,
    pub parts: Vec<Part<'a>>,
}

/// All functions of an object.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    pub sections: Vec<Section<'a>>,
    /// For each program, which function of [`TEXT`] is called by which name.
    callees: Vec<Vec<(&'a str, usize)>>,
}

impl<'a> Layout<'a> {
    pub(super) fn new(programs: &[&'a Linked], names: &mut Identifiers) -> Self {
        let mut layout = Self { sections: vec![Section::new(TEXT)], callees: Vec::new() };
        // Programs before the functions that they call: it is they that people look for by name.
        let entries: Vec<String> = programs.iter().map(|program| names.take(&program.spec().name, "prog")).collect();
        for (program, &linked) in programs.iter().enumerate() {
            let called = functions(linked).skip(1).map(|(func, slots)| {
                let part = Part { name: String::new(), start: 0, slots, is_global: false, func, linked, program };
                (func.name.as_str(), layout.subprogram(names, part))
            });
            let called = called.collect();
            layout.callees.push(called);
        }
        for (name, (program, linked)) in entries.into_iter().zip(programs.iter().copied().enumerate()) {
            let Some((func, slots)) = functions(linked).next() else { continue };
            let section = linked.spec().attach.section(&layout.onto(programs, linked));
            let known = layout.sections.iter_mut().position(|known| known.name == section);
            let at = known.unwrap_or_else(|| {
                layout.sections.push(Section::new(&section));
                layout.sections.len() - 1
            });
            layout.sections[at].add(Part { name, start: 0, slots, is_global: true, func, linked, program });
        }
        layout
    }

    /// Puts a function that programs call in its place, unless that of another program is the same in all and calls nothing.
    fn subprogram(&mut self, names: &mut Identifiers, part: Part<'a>) -> usize {
        let text = &mut self.sections[0];
        if let Some(known) = text.parts.iter().position(|known| known.is_same(&part)) {
            return known;
        }
        let name = names.take(&part.func.name, &part.linked.spec().name);
        text.add(Part { name, is_global: part.func.linkage == Linkage::Global, ..part });
        text.parts.len() - 1
    }

    /// What the object calls the function that a program belongs to.
    fn onto(&self, programs: &[&Linked], program: &Linked) -> String {
        let Some(onto) = program.spec().attach.onto() else { return String::new() };
        let owner = programs.iter().position(|other| other.spec().name == onto.program);
        let part = owner.and_then(|owner| self.callee(owner, &onto.func).ok());
        part.map_or_else(|| type_name(&onto.func), |(_, part)| part.name.clone())
    }

    /// The function that a program calls by a name, and its number in [`TEXT`].
    ///
    /// # Errors
    /// A function of the kernel.
    pub(super) fn callee(&self, program: usize, name: &str) -> Result<(usize, &Part<'a>), Error> {
        let found = self.callees[program].iter().find(|(known, _)| *known == name);
        let what = || format!("libbpf looks for the kernel function `{name}` with its types, which are not known here");
        found.map(|&(_, at)| (at, &self.sections[0].parts[at])).ok_or_else(|| Error::Object(what()))
    }
}

impl<'a> Section<'a> {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), parts: Vec::new() }
    }

    fn add(&mut self, part: Part<'a>) {
        let start = self.parts.last().map_or(0, |last| last.start + last.slots.len());
        self.parts.push(Part { start, ..part });
    }
}

/// The functions of a program with their slots.
fn functions(program: &Linked) -> impl Iterator<Item = (&Func, Range<usize>)> {
    let starts = program.funcs().iter().map(|&(start, _)| start);
    let ends = starts.clone().skip(1).chain([program.insns().len()]);
    program.spec().funcs.iter().zip(starts.zip(ends).map(|(start, end)| start..end))
}

/// Identifiers of C, each of which is there once.
#[derive(Clone, Debug, Default)]
pub struct Identifiers(HashSet<String>);

impl Identifiers {
    /// The name itself, or with its owner's before it, or with a number: the first that is free. It is taken then.
    pub fn take(&mut self, name: &str, owner: &str) -> String {
        let plain = Some(type_name(name)).filter(|name| !name.starts_with(|c: char| c.is_ascii_digit()));
        let owned = type_name(&format!("{owner}_{name}"));
        let numbered = (2..).map(|number: u32| format!("{owned}_{number}"));
        let mut all = plain.into_iter().chain([owned.clone()]).chain(numbered);
        let free = all.find(|name| !self.0.contains(name)).unwrap_or_default();
        self.0.insert(free.clone());
        free
    }
}
