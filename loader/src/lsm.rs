//! Which security modules are active. Programs at their hooks run only where `bpf` is one of them.

use std::fs;
use std::os::fd::AsRawFd;

use crate::sys::mount;

/// The list in securityfs; none where that cannot be read.
pub(crate) fn active(may_mount: bool) -> Option<String> {
    read("lsm", may_mount)
}

/// How far the kernel is locked down, where it can be: `none`, `integrity` or `confidentiality`.
pub(crate) fn lockdown(may_mount: bool) -> Option<String> {
    read("lockdown", may_mount).as_deref().and_then(chosen).map(str::to_owned)
}

/// `none [integrity] confidentiality` has one word that is chosen.
pub(crate) fn chosen(modes: &str) -> Option<&str> {
    modes.split_once('[')?.1.split_once(']').map(|(mode, _)| mode)
}

/// A file of securityfs, which need not be mounted.
fn read(name: &str, may_mount: bool) -> Option<String> {
    let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    read(&format!("/sys/kernel/security/{name}")).or_else(|| {
        let root = may_mount.then(|| mount::detached(c"securityfs").ok()).flatten()?;
        read(&format!("/proc/self/fd/{}/{name}", root.as_raw_fd()))
    })
}

/// Why programs would never run, if the list does not have what runs them.
pub(crate) fn why_not(list: &str) -> Option<String> {
    let is_active = list.split(',').any(|module| module == "bpf");
    (!is_active).then(|| {
        format!(
            "the kernel takes the program and never runs it, as `bpf` is not among its security modules, {list}: boot it \
             with lsm={list},bpf"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_mode_is_the_one_in_brackets() {
        assert_eq!(chosen("none [integrity] confidentiality\n"), Some("integrity"));
        assert_eq!(chosen(""), None);
    }

    #[test]
    fn a_list_without_bpf_says_what_to_do() {
        assert_eq!(why_not("lockdown,capability,bpf"), None);
        let why = why_not("lockdown,capability,ebpf").unwrap();
        assert!(why.ends_with("lsm=lockdown,capability,ebpf,bpf"), "{why}");
    }
}
