//! Files that an option names, to be written.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::io::Errno;

/// Opens a file to be written, and makes or empties it, with the permissions that the umask leaves. A symbolic link is followed if
/// this user or root has made it: in /tmp, others may have put one where they know that root will write, to have root
/// write to what it points to.
///
/// # Errors
/// As open(2), and another user's link.
pub fn create(path: &Path) -> io::Result<File> {
    let open = |flags| File::options().write(true).create(true).truncate(true).custom_flags(flags).open(path);
    match open(libc::O_NOFOLLOW) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
            let owner = path.symlink_metadata()?.uid();
            if owner != 0 && owner != rustix::process::geteuid().as_raw() {
                let text = format!("it is a symbolic link that another user has made, whose number is {owner}");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
            open(0)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    use super::*;

    #[test]
    fn ones_own_link_is_followed_and_a_file_is_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "before").unwrap();
        symlink(&file, &link).unwrap();
        drop(create(&link).unwrap());
        assert_eq!(fs::read(&file).unwrap(), b"");
        assert!(link.is_symlink());
        let mode = create(&folder.path().join("new")).unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0, "{mode:o}");
        // One that points to nothing makes a file there.
        symlink(folder.path().join("later"), folder.path().join("ahead")).unwrap();
        drop(create(&folder.path().join("ahead")).unwrap());
        assert!(folder.path().join("later").is_file());
    }

    #[test]
    fn another_users_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "before").unwrap();
        symlink(&file, &link).unwrap();
        if lchown(&link, Some(65534), None).is_err() {
            eprintln!("skipped: only root can give a link away");
            return;
        }
        let error = create(&link).unwrap_err();
        assert_eq!(error.to_string(), "it is a symbolic link that another user has made, whose number is 65534");
        assert_eq!(fs::read(&file).unwrap(), b"before");
    }
}
