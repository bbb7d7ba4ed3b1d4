//! What /proc says of a process in lines of a key and a number.

use std::{fs, io};

/// The number in the line of a key: `PPid:\t1`.
pub fn number(lines: &str, key: &str) -> Option<u32> {
    lines.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.trim().parse().ok()
}

/// The lines of /proc/PID/status. The first has the name of the process, which may be any bytes.
pub struct Status(String);

impl Status {
    /// What it says now.
    ///
    /// # Errors
    /// A number that no process has.
    pub fn of(pid: u32) -> io::Result<Self> {
        fs::read(format!("/proc/{pid}/status")).map(|bytes| Self::from(bytes.as_slice()))
    }

    /// The number in a line.
    pub fn number(&self, key: &str) -> Option<u32> {
        number(&self.0, key)
    }
}

impl From<&[u8]> for Status {
    fn from(bytes: &[u8]) -> Self {
        Self(String::from_utf8_lossy(bytes).into_owned())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Read as _;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process whose name is no text. It lives until it is killed.
    pub(crate) fn nameless() -> Child {
        // It says so when it has its name.
        let script = r"printf '\377\033' >/proc/$$/comm && echo && read _";
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    #[test]
    fn a_name_that_is_no_text_hides_no_number() {
        let mut child = nameless();
        let status = Status::of(child.id());
        child.kill().and_then(|()| child.wait()).unwrap();
        let status = status.unwrap();
        let expected = (Some(child.id()), Some(std::process::id()));
        assert_eq!((status.number("Tgid"), status.number("PPid")), expected);
        assert!(Status::of(u32::MAX).is_err());
    }

    #[test]
    fn a_line_is_found_by_all_of_its_key() {
        let status = Status::from(&b"Name:\tx\nPid:\nPPid:\t12\n"[..]);
        assert_eq!((status.number("PPid"), status.number("Pid"), status.number("PP")), (Some(12), None, None));
    }

    #[test]
    fn a_descriptors_program_is_read() {
        let fdinfo = "pos:\t0\nflags:\t02000002\nprog_type:\t17\nprog_jited:\t1\nprog_id:\t42\nrun_cnt:\t0\n";
        assert_eq!(number(fdinfo, "prog_id"), Some(42));
        assert_eq!(number("pos:\t0\nmap_id:\t7\n", "prog_id"), None);
        assert_eq!(number("prog_id:\tmany\n", "prog_id"), None);
    }
}
