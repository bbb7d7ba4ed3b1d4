//! Where a kernel's types are looked for.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bpfkit_asm::Version;
use bpfkit_btf::{Archive, Btf, Form};

use crate::Error;
use crate::error::{Tried, chain};
use crate::kernel;
use crate::map::with_memlock;
use crate::sys::bpf;

/// Where the types of a kernel came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BtfSource {
    /// The file, or what else has them.
    pub place: String,
    /// What the file has them in.
    pub form: Form,
    /// How long it took to read them.
    pub took: Duration,
    /// Why they seem to be another kernel's, where they were asked for all the same: by a build ID, or by the name of the file.
    pub doubt: Option<String>,
}

impl fmt::Display for BtfSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self.form {
            Form::Btf => "BTF",
            Form::Dwarf => "DWARF",
            Form::Archive => "an archive",
        };
        write!(f, "{form} in {} after {:.1} ms", self.place, self.took.as_secs_f64() * 1e3)
    }
}

/// Has the running kernel check BTF and keep it, as long as the descriptor is open: what is made for it can be tried so.
///
/// # Errors
/// What the kernel says of it.
pub fn load_btf(btf: &Btf) -> Result<OwnedFd, Error> {
    let load = with_memlock(|| bpf::btf_load(btf.as_bytes()));
    load.map_err(|error| Error::privileged("the kernel does not take the types", error))
}

/// What to look for, and where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Search {
    /// The one file to look at.
    pub(crate) file: Option<PathBuf>,
    /// What is needed; all types without it. Only DWARF is read for it: other forms are whole without any work.
    pub(crate) roots: Option<&'static [&'static str]>,
    /// An archive that the program carries.
    pub(crate) carried: &'static [u8],
    /// What the running kernel's build ID is taken for, in tests.
    pub(crate) build_id: Option<String>,
}

impl Search {
    /// Looks at the file that was asked for, or else in the system that has its directories below `root`, for types of the
    /// kernel of this release.
    pub(crate) fn run(&self, root: &Path, release: &str) -> Result<(Btf, BtfSource), Tried> {
        if let Some(file) = &self.file {
            return self.read(file, release).map_err(|error| vec![("--btf".to_owned(), chain(&error))]);
        }
        let mut tried = Tried::new();
        for place in places(release) {
            let place = root.join(place.trim_start_matches('/'));
            match self.read(&place, release) {
                // Nobody has asked for this file.
                Ok((_, BtfSource { doubt: Some(doubt), .. })) => tried.push((place.display().to_string(), doubt)),
                Ok(found) => return Ok(found),
                Err(error) => tried.push((place.display().to_string(), cause(&error))),
            }
        }
        let place = "the archive in this program";
        let started = Instant::now();
        let carried = match self.carried {
            [] => Err("there is none".to_owned()),
            carried => {
                let found = Archive::parse(carried).and_then(|archive| archive.find(|known| known == release));
                found.map_err(|error| chain(&error))
            }
        };
        match carried {
            Ok(btf) => Ok((
                btf,
                BtfSource { place: place.to_owned(), form: Form::Archive, took: started.elapsed(), doubt: None },
            )),
            Err(why) => {
                tried.push((place.to_owned(), why));
                Err(tried)
            }
        }
    }

    fn read(&self, file: &Path, release: &str) -> Result<(Btf, BtfSource), bpfkit_btf::Error> {
        let started = Instant::now();
        let (btf, form) = Btf::open(file, self.roots, |known| known == release)?;
        let doubt = match form {
            // It is chosen by the release.
            Form::Archive => None,
            Form::Btf | Form::Dwarf => self.doubt(file, &btf, release),
        };
        Ok((btf, BtfSource { place: file.display().to_string(), form, took: started.elapsed(), doubt }))
    }

    /// Whether a file says that it is of another kernel. A build ID tells for sure, a name where there is none.
    fn doubt(&self, file: &Path, btf: &Btf, release: &str) -> Option<String> {
        let id = bpfkit_btf::build_id(file).or_else(|| btf.build_id());
        if let Some((id, own)) = id.zip(self.build_id.clone().or_else(kernel::build_id)) {
            return (id != own).then(|| format!("its build ID is {id}, and the running kernel's is {own}"));
        }
        let named = named_release(file)?;
        // A name may say no more than the version.
        let (name, own) = (named.parse::<Version>().ok()?, release.parse::<Version>().ok()?);
        let is_other = if named.contains('-') { named != release } else { name != own };
        is_other.then(|| format!("by its name it is of {named}, and the running kernel is {release}"))
    }
}

/// The release in the name of a file: `vmlinux-4.19.0-27-amd64`, `4.18.0-80.el8.x86_64.btf`.
fn named_release(file: &Path) -> Option<&str> {
    let name = file.file_name()?.to_str()?;
    let name = name.strip_prefix("vmlinux-").unwrap_or(name);
    let name = [".btf", ".debug"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    name.starts_with(|c: char| c.is_ascii_digit()).then_some(name)
}

/// Why a file was not taken, without its name, which is in front of it already.
fn cause(error: &bpfkit_btf::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), chain)
}

/// Where distributions and those who build kernels leave a vmlinux.
fn places(release: &str) -> [String; 10] {
    [
        format!("/boot/vmlinux-{release}"),
        format!("/lib/modules/{release}/vmlinux"),
        format!("/lib/modules/{release}/vmlinux-{release}"),
        format!("/lib/modules/{release}/build/vmlinux"),
        format!("/usr/lib/modules/{release}/kernel/vmlinux"),
        format!("/usr/lib/debug/boot/vmlinux-{release}"),
        format!("/usr/lib/debug/boot/vmlinux-{release}.debug"),
        format!("/usr/lib/debug/lib/modules/{release}/vmlinux"),
        format!("/usr/lib/debug/lib/modules/{release}/vmlinux.debug"),
        format!("/usr/lib/debug/usr/lib/modules/{release}/vmlinux"),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    const RELEASE: &str = "4.18.0-1-amd64";

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
    }

    /// A system without types, but for one file.
    fn system(place: &str, bytes: &[u8]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(place.trim_start_matches('/'));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
        root
    }

    fn archive(release: &str) -> &'static [u8] {
        let cut = fs::read(fixture("btf/5.10.btf")).unwrap();
        Vec::leak(Archive::write(&BTreeMap::from([(release.to_owned(), cut)])).unwrap())
    }

    #[test]
    fn a_vmlinux_is_found_at_every_place_and_read_by_btf_or_by_dwarf() {
        let dwarf = fs::read(fixture("dwarf/mixed.so")).unwrap();
        let search = Search { roots: Some(&["node.later"]), ..Search::default() };
        for place in places(RELEASE) {
            let root = system(&place, &dwarf);
            let (btf, source) = search.run(root.path(), RELEASE).unwrap();
            assert!(source.place.ends_with(&place) && source.form == Form::Dwarf, "{source}");
            assert_eq!(btf.field("node.later").unwrap().offset, 24);
            assert!(btf.field("node.next").is_err(), "only what is needed");
            assert!(source.to_string().starts_with("DWARF in "), "{source}");
        }
        let root = system(&places(RELEASE)[0], &fs::read(fixture("btf/5.10.btf")).unwrap());
        assert_eq!(search.run(root.path(), RELEASE).unwrap().1.form, Form::Btf);
    }

    #[test]
    fn types_of_another_kernel_are_passed_over_or_doubted_by_their_marks() {
        let marked = |id: &str| Btf::from_file(fixture("btf/5.10.btf")).unwrap().marked(id);
        let search = Search { build_id: Some("c0ffee".to_owned()), ..Search::default() };
        // What nobody asked for is not taken.
        let root = system(&places(RELEASE)[0], &marked("bad1dea"));
        let tried = search.run(root.path(), RELEASE).unwrap_err();
        assert_eq!(tried[0].1, "its build ID is bad1dea, and the running kernel's is c0ffee");
        let root = system(&places(RELEASE)[0], &marked("c0ffee"));
        assert_eq!(search.run(root.path(), RELEASE).unwrap().1.doubt, None);
        // What was asked for is, and doubted: by its mark, or by its name where it has none, or by neither.
        for (name, bytes, doubt) in [
            ("5.10.btf", marked("bad1dea"), Some("build ID is bad1dea")),
            ("5.10.btf", marked("c0ffee"), None),
            ("5.10.btf", fs::read(fixture("btf/5.10.btf")).unwrap(), Some("by its name it is of 5.10")),
            ("4.18.btf", fs::read(fixture("btf/5.10.btf")).unwrap(), None),
            ("vmlinux-4.18.0-2-amd64", fs::read(fixture("btf/5.10.btf")).unwrap(), Some("of 4.18.0-2-amd64, and the")),
            ("vmlinux-4.18.0-1-amd64", fs::read(fixture("btf/5.10.btf")).unwrap(), None),
            ("vmlinux.btf", fs::read(fixture("btf/5.10.btf")).unwrap(), None),
        ] {
            let root = system(name, &bytes);
            let search = Search { file: Some(root.path().join(name)), ..search.clone() };
            let found = search.run(root.path(), RELEASE).unwrap().1.doubt;
            assert_eq!(found.is_some(), doubt.is_some(), "{name}: {found:?}");
            assert!(found.unwrap_or_default().contains(doubt.unwrap_or_default()), "{name}");
        }
    }

    #[test]
    fn the_carried_archive_is_last_and_for_its_kernels_alone() {
        let search = Search { carried: archive(RELEASE), ..Search::default() };
        let empty = tempfile::tempdir().unwrap();
        let (btf, source) = search.run(empty.path(), RELEASE).unwrap();
        assert_eq!(btf.field("sock.__sk_common.skc_dport").unwrap().offset, 12);
        assert_eq!((source.place.as_str(), source.form), ("the archive in this program", Form::Archive));
        let root = system(&places(RELEASE)[6], &fs::read(fixture("dwarf/mixed.so")).unwrap());
        assert_eq!(search.run(root.path(), RELEASE).unwrap().1.form, Form::Dwarf);
        let tried = search.run(empty.path(), "4.18.0-2-amd64").unwrap_err();
        assert!(tried.last().unwrap().1.contains("none of the 1 releases"), "{tried:?}");
    }

    #[test]
    fn each_place_and_why_it_failed_is_told() {
        let torn = &fs::read(fixture("dwarf/mixed.so")).unwrap()[..200];
        let root = system(&places(RELEASE)[0], torn);
        let tried = Search::default().run(root.path(), RELEASE).unwrap_err();
        assert_eq!(tried.len(), places(RELEASE).len() + 1);
        assert!(tried[0].0.ends_with("/boot/vmlinux-4.18.0-1-amd64") && tried[0].1.contains("ELF"), "{tried:?}");
        assert!(tried[1].1.contains("No such file"), "{tried:?}");
        assert_eq!(tried.last().unwrap().1, "there is none");
    }

    #[test]
    fn the_file_that_was_asked_for_may_be_an_archive_and_is_the_only_one_looked_at() {
        let root = system("types.archive", archive(RELEASE));
        let search = Search { file: Some(root.path().join("types.archive")), ..Search::default() };
        assert_eq!(search.run(root.path(), RELEASE).unwrap().1.form, Form::Archive);
        let tried = search.run(root.path(), "5.4.0").unwrap_err();
        assert!(tried.len() == 1 && tried[0].1.contains("none of the 1 releases"), "{tried:?}");
    }
}
