//! The cases, one file an area. A new file is added to `AREAS` and nowhere else.

mod asm;
mod bpf2bpf;
mod confine;
mod dump;
mod execsnoop;
mod faults;
mod features;
mod gethostlatency;
mod guest;
mod icmpecho;
mod lacking;
pub(super) mod load;
mod loader_errors;
mod loader_examples;
mod loader_maps;
mod loader_progs;
mod loader_ring;
mod loader_target;
mod loader_tracing;
mod loader_uprobes;
mod objects;
mod probe;
mod settings;
mod skbrecv;
mod tcpconnect;
mod texts;
mod types;
pub(super) mod usdt;
mod verifier;
mod writehist;

use super::case::{Boot, Case};

const AREAS: &[&[Case]] = &[
    guest::CASES,
    loader_maps::CASES,
    loader_progs::CASES,
    loader_uprobes::CASES,
    usdt::CASES,
    loader_errors::CASES,
    loader_ring::CASES,
    loader_target::CASES,
    loader_tracing::CASES,
    loader_examples::CASES,
    asm::CASES,
    texts::CASES,
    bpf2bpf::CASES,
    objects::CASES,
    dump::CASES,
    features::CASES,
    lacking::CASES,
    types::CASES,
    settings::CASES,
    confine::CASES,
    load::CASES,
    faults::CASES,
    tcpconnect::CASES,
    execsnoop::CASES,
    icmpecho::CASES,
    skbrecv::CASES,
    writehist::CASES,
    verifier::CASES,
    gethostlatency::CASES,
];

/// The ways in which a kernel is booted beside the usual one, each for the cases that need it.
const BOOTS: &[(Boot, &[Case])] =
    &[(settings::ONE_CPU, settings::ON_ONE_CPU), (settings::FOUR_CPUS, settings::ON_FOUR_CPUS)];

/// The usual way. Programs are always at the same addresses, because an emulator translates their code once for each address: a
/// kernel's cases cost a third less so. A boot with more processors leaves addresses random, and has a case that needs them so.
const USUAL: Boot = Boot { name: "", words: &["norandmaps"], smp: None };

/// The ways in which a kernel is booted: first the usual one.
pub fn boots() -> impl Iterator<Item = Boot> {
    [USUAL].into_iter().chain(BOOTS.iter().map(|(boot, _)| *boot))
}

/// The cases of a boot.
fn of(boot: &str) -> impl Iterator<Item = &'static Case> {
    let usual = if boot.is_empty() { AREAS } else { &[] };
    let more = BOOTS.iter().filter(move |(known, _)| known.name == boot).flat_map(|(_, cases)| *cases);
    usual.iter().copied().flatten().chain(more)
}

fn all() -> impl Iterator<Item = &'static Case> {
    boots().flat_map(|boot| of(boot.name))
}

/// The names of a boot's cases that contain one of the filters, or of all without a filter.
pub fn selected_in(boot: &str, filter: &[String]) -> Vec<&'static str> {
    let wanted = |name: &str| filter.is_empty() || filter.iter().any(|part| name.contains(part.as_str()));
    of(boot).map(|case| case.name).filter(|name| wanted(name)).collect()
}

/// The same of all boots.
pub fn selected(filter: &[String]) -> Vec<&'static str> {
    boots().flat_map(|boot| selected_in(boot.name, filter)).collect()
}

/// The case of this name.
pub fn find(name: &str) -> Option<&'static Case> {
    all().find(|case| case.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_have_an_area() {
        let names = selected(&[]);
        for (i, name) in names.iter().enumerate() {
            assert!(name.split_once("::").is_some_and(|(area, case)| !area.is_empty() && !case.is_empty()), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':'), "{name}");
            assert_eq!(names.iter().position(|other| other == name), Some(i), "{name} is there twice");
        }
    }

    #[test]
    fn a_filter_is_part_of_a_name() {
        assert!(selected(&["guest::".to_owned()]).contains(&"guest::loopback_is_up"));
        assert!(selected(&["no such case".to_owned()]).is_empty());
    }
}
