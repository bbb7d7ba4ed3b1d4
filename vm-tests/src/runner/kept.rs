//! Files that runs make once and share: each is named by a hash of what it is made of.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

/// Tells apart what the guests of a run are writing.
static NUMBER: AtomicU32 = AtomicU32::new(0);
/// How long a file that no run uses is kept.
const UNUSED: Duration = Duration::from_secs(24 * 3600);

/// What is kept, each in a directory of its own below the work directory.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The first file system of guests.
    Initramfs,
    /// Kernels out of their compression.
    Unpacked,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Initramfs, Self::Unpacked];

    /// The name of the directory, and what the names of its files end with.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Initramfs => ("initramfs", "cpio"),
            Self::Unpacked => ("unpacked", "vmlinux"),
        }
    }

    /// The place of what is made of these bytes. What is there already is taken as used now.
    pub fn place(self, work: &Path, source: &[u8]) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        let (directory, extension) = self.names();
        let path = work.join(directory).join(format!("{:016x}.{extension}", hasher.finish()));
        // Its time says when it was last used.
        let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        path
    }
}

/// Writes a file to its place. It appears whole or not at all; other guests and other runs may be writing the same.
///
/// # Errors
/// There is no room, or no such directory can be made.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let partial = path.with_extension(format!("{}-{number}.partial", std::process::id()));
    let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written
}

/// Removes what no run has used for a while.
pub fn remove_old(work: &Path) {
    let directories = Kind::ALL.map(|kind| fs::read_dir(work.join(kind.names().0)));
    for entry in directories.into_iter().flatten().flatten().flatten() {
        let used = entry.metadata().and_then(|meta| meta.modified());
        if used.is_ok_and(|used| SystemTime::now().duration_since(used).is_ok_and(|age| age > UNUSED)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Makes a file look as if no run had used it for so long that it is removed.
    pub fn age(path: &Path) {
        let old = SystemTime::now() - UNUSED - Duration::from_secs(60);
        File::options().write(true).open(path).and_then(|file| file.set_modified(old)).expect("aged");
    }

    #[test]
    fn what_is_used_again_is_not_old() {
        let directory = tempfile::tempdir().expect("directory");
        for kind in Kind::ALL {
            let path = kind.place(directory.path(), b"some");
            write(&path, b"made of it").expect("written");
            age(&path);
            assert_eq!(kind.place(directory.path(), b"some"), path);
            remove_old(directory.path());
            assert_eq!(fs::read(&path).expect("read"), b"made of it");
            age(&path);
            remove_old(directory.path());
            assert!(!path.exists());
        }
    }
}
