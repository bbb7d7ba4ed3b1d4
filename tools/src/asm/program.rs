//! Programs out of a text: which functions belong together, and their bytes.

use std::collections::{BTreeMap, BTreeSet};

use bpfkit_asm::{Code, Fixup, Insn, Reference};
use bpfkit_loader::{Func, Linkage, ProgSpec, Prototype, Target};

use super::document::{Document, Section};
use crate::Error;

/// The functions of a document, finished.
type Codes = BTreeMap<String, Code>;

/// The functions whose addresses a function needs.
fn callees(code: &Code) -> impl Iterator<Item = &str> {
    code.fixups().iter().filter_map(|(_, fixup)| match fixup {
        Fixup::Call(name) | Fixup::Func(name) => Some(&**name),
        Fixup::Reference(Reference::Func(name)) => Some(name.as_str()),
        _ => None,
    })
}

/// Whether a function jumps out of itself, or calls others by their distance, so that it must stay where it is among them.
fn is_fixed(code: &Code) -> bool {
    let insns = code.insns();
    let filled: BTreeSet<usize> = code.fixups().iter().map(|&(slot, _)| slot).collect();
    let leaves = |slot: usize, insn: &Insn| {
        let is_inside = insn.destination(slot).is_some_and(|to| to < insns.len());
        if insn.refers_to_function() { !filled.contains(&slot) } else { insn.jump().is_some() && !is_inside }
    };
    bpfkit_asm::list(insns, &()).any(|listed| leaves(listed.slot, &listed.insn))
}

fn spec(document: &Document, section: &Section, funcs: Vec<Func>) -> ProgSpec {
    ProgSpec {
        name: funcs.first().map_or_else(String::new, |func| func.name.clone()),
        attach: section.attach.clone().unwrap_or(super::UNSAID),
        license: document.license.clone().unwrap_or_else(|| "GPL".to_owned()),
        funcs,
    }
}

fn func(name: &str, code: Code) -> Func {
    Func { name: name.to_owned(), code, proto: Prototype::int(), linkage: Linkage::Static }
}

fn finish(section: &Section) -> Result<Vec<(String, Code)>, Error> {
    section.funcs.iter().map(|(name, code)| Ok((name.clone(), code.clone()?))).collect()
}

/// The bytes of a section as they are before anybody loads them: instructions that refer to something keep what they have.
///
/// # Errors
/// A mistake in the code; what the kernel is asked for and lacks.
pub fn bytes(
    document: &Document,
    section: &Section,
    target: impl FnOnce() -> Result<Target, Error>,
) -> Result<Vec<u8>, Error> {
    let codes = finish(section)?;
    let is_kernels = |fixup: &Fixup| {
        !matches!(fixup, Fixup::Map(_) | Fixup::MapValue(_) | Fixup::Call(_) | Fixup::Func(_) | Fixup::Reference(_))
    };
    let needs_kernel = codes.iter().flat_map(|(_, code)| code.fixups()).any(|(_, fixup)| is_kernels(fixup));
    let funcs = codes.into_iter().map(|(name, code)| func(&name, code.without_references())).collect();
    let mut spec = spec(document, section, funcs);
    // What depends on no kernel is the same for all of them.
    let target = if needs_kernel {
        target()?
    } else {
        spec.attach = super::UNSAID;
        Target::offline(None, bpfkit_asm::Version::new(6, 12))
    };
    let linked = spec.link(&target)?;
    let is_big = document.big_endian.unwrap_or(cfg!(target_endian = "big"));
    let slots = linked.insns().iter().flat_map(|insn| if is_big { insn.to_be_bytes() } else { insn.to_le_bytes() });
    Ok(slots.chain(section.tail.iter().copied()).collect())
}

/// The programs of a document: those of one section, or of all that are no library to others; each begins with a function that no
/// other one calls, and has what that one calls.
///
/// # Errors
/// A mistake in the code; a section or function that is not there.
pub fn programs(document: &Document, section: Option<&str>, wanted: &[String]) -> Result<Vec<ProgSpec>, Error> {
    let mut all = Codes::new();
    for section in &document.sections {
        all.extend(finish(section)?);
    }
    let called: BTreeSet<&str> = all.values().flat_map(callees).collect();
    let has_place = document.sections.iter().any(|section| section.attach.is_some());
    let is_wanted = |known: &&Section| match section {
        Some(name) => known.name == name,
        None => !has_place || known.attach.is_some(),
    };
    let mut programs = Vec::new();
    for section in document.sections.iter().filter(is_wanted) {
        if !section.tail.is_empty() {
            return Err(Error::Request(format!("section {:?} ends in bytes that are no instruction", section.name)));
        }
        let names: Vec<&str> = section.funcs.iter().map(|(name, _)| name.as_str()).collect();
        let code = |name: &str| all.get(name).cloned();
        if names.iter().filter_map(|name| all.get(*name)).any(is_fixed) {
            let more = reachable(&all, &names).into_iter().filter(|name| !names.contains(name));
            let funcs = names.iter().copied().chain(more).filter_map(|name| Some(func(name, code(name)?)));
            programs.push(spec(document, section, funcs.collect()));
            continue;
        }
        // What is asked for by name may be one that others call.
        let begins = |name: &&str| !called.contains(name) || wanted.iter().any(|wanted| wanted == name);
        let mut entries: Vec<&str> = names.iter().copied().filter(begins).collect();
        if entries.is_empty() {
            entries.extend(names.first());
        }
        for entry in entries {
            let funcs = reachable(&all, &[entry]).into_iter().filter_map(|name| Some(func(name, code(name)?)));
            programs.push(spec(document, section, funcs.collect()));
        }
    }
    if let Some(missing) = wanted.iter().find(|name| !programs.iter().any(|program| program.name == **name)) {
        let known: Vec<&str> = programs.iter().map(|program| program.name.as_str()).collect();
        return Err(Error::Request(format!(
            "no program begins with a function `{missing}`; there are {}",
            known.join(", ")
        )));
    }
    programs.retain(|program| wanted.is_empty() || wanted.contains(&program.name));
    Ok(programs)
}

/// Some functions and all that they call, each once, callers first.
fn reachable<'a>(all: &'a Codes, from: &[&'a str]) -> Vec<&'a str> {
    let mut found: Vec<&str> = from.to_vec();
    let mut known: BTreeSet<&str> = from.iter().copied().collect();
    let mut at = 0;
    while let Some(name) = found.get(at) {
        at += 1;
        for callee in all.get(*name).into_iter().flat_map(callees) {
            if known.insert(callee) {
                found.push(callee);
            }
        }
    }
    found
}
