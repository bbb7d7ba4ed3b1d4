//! A tree of files for a guest.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::cpio::Cpio;

/// Files by their place in the guest, without the first slash. What is put in a place later takes it over.
#[derive(Default)]
pub struct Tree(BTreeMap<String, Entry>);

enum Entry {
    Directory,
    File { permissions: u32, contents: Vec<u8> },
    Link(Vec<u8>),
}

impl Tree {
    /// Puts a file of these permission bits in its place, which begins with a slash.
    pub fn file(&mut self, place: &str, permissions: u32, contents: Vec<u8>) {
        self.put(place, Entry::File { permissions, contents });
    }

    /// Puts files where they are on this machine.
    ///
    /// # Errors
    /// As `copy`.
    pub fn files(&mut self, paths: &[PathBuf]) -> Result<(), String> {
        paths.iter().try_for_each(|path| self.copy(path, &path.display().to_string()))
    }

    /// Puts what is at `path` in its place: a file, or a directory with all that is in it. Symbolic links within a directory
    /// stay what they are.
    ///
    /// # Errors
    /// What cannot be read, or is of a kind that makes no sense in another machine.
    pub fn copy(&mut self, path: &Path, place: &str) -> Result<(), String> {
        let failed = |error| format!("read {}: {error}", path.display());
        let kind = fs::metadata(path).map_err(failed)?;
        if kind.is_file() {
            let contents = fs::read(path).map_err(failed)?;
            self.file(place, kind.permissions().mode() & 0o7777, contents);
            return Ok(());
        }
        if !kind.is_dir() {
            return Err(format!("{} is neither a file nor a directory", path.display()));
        }
        self.put(place, Entry::Directory);
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| format!("{} is not UTF-8", entry.path().display()))?;
            let place = format!("{}/{name}", place.trim_end_matches('/'));
            if entry.file_type().map_err(failed)?.is_symlink() {
                let target = fs::read_link(entry.path()).map_err(failed)?;
                self.put(&place, Entry::Link(target.as_os_str().as_bytes().to_vec()));
            } else {
                self.copy(&entry.path(), &place)?;
            }
        }
        Ok(())
    }

    /// Its archive. A directory comes before what is in it, since its name is the beginning of theirs.
    pub fn archive(&self) -> Vec<u8> {
        let mut cpio = Cpio::new();
        for (path, entry) in &self.0 {
            match entry {
                Entry::Directory => cpio.directory(path),
                Entry::File { permissions, contents } => cpio.file(path, *permissions, contents),
                Entry::Link(target) => cpio.link(path, target),
            }
        }
        cpio.finish()
    }

    fn put(&mut self, place: &str, entry: Entry) {
        let place = place.trim_matches('/');
        for (end, _) in place.match_indices('/') {
            self.0.entry(place[..end].to_owned()).or_insert(Entry::Directory);
        }
        // A directory that comes again keeps what it is.
        if !matches!(entry, Entry::Directory) || !self.0.contains_key(place) {
            self.0.insert(place.to_owned(), entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tree: &Tree) -> Vec<&str> {
        tree.0.keys().map(String::as_str).collect()
    }

    #[test]
    fn directories_come_before_what_is_in_them() {
        let mut tree = Tree::default();
        tree.file("/a/b/c", 0o644, b"c".to_vec());
        tree.file("/a-b", 0o644, Vec::new());
        tree.file("/a/b.d", 0o644, Vec::new());
        assert_eq!(names(&tree), ["a", "a-b", "a/b", "a/b.d", "a/b/c"]);
    }

    #[test]
    fn a_directory_is_copied_with_its_links_and_permissions() {
        let directory = tempfile::tempdir().expect("directory");
        let inner = directory.path().join("inner");
        fs::create_dir(&inner).expect("create");
        fs::write(inner.join("run.sh"), "#!\n").expect("write");
        fs::set_permissions(inner.join("run.sh"), fs::Permissions::from_mode(0o755)).expect("mode");
        std::os::unix::fs::symlink("inner/run.sh", directory.path().join("link")).expect("link");
        let mut tree = Tree::default();
        tree.copy(directory.path(), "/data/").expect("a tree");
        assert_eq!(names(&tree), ["data", "data/inner", "data/inner/run.sh", "data/link"]);
        let archive = String::from_utf8_lossy(&tree.archive()).into_owned();
        assert!(archive.contains("data/link\0") && archive.contains("inner/run.sh\0"), "{archive}");
        assert!(archive.contains("000081ED"), "the mode of an executable file: {archive}");
        assert!(archive.contains("0000A1FF"), "the mode of a link: {archive}");
    }

    #[test]
    fn devices_and_what_is_not_there_are_refused() {
        let mut tree = Tree::default();
        assert!(tree.copy(Path::new("/dev/null"), "/x").expect_err("a device").contains("neither"));
        assert!(tree.copy(Path::new("/nonexistent"), "/x").expect_err("nothing").contains("/nonexistent"));
    }
}
