//! A kernel version as people speak of it.

use std::fmt;
use std::str::FromStr;

/// A kernel version without its patch level, such as 5.10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The 5 of 5.10.
    pub major: u16,
    /// The 10 of 5.10.
    pub minor: u16,
}

impl Version {
    /// The version `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What was not a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseVersionError(String);

impl fmt::Display for ParseVersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a kernel version such as 5.10", self.0)
    }
}

impl std::error::Error for ParseVersionError {}

impl FromStr for Version {
    type Err = ParseVersionError;

    /// Takes `5.10` and what uname says, `5.10.0-39-cloud-amd64` or `7.3-rc2`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseVersionError(text.to_owned());
        let (major, rest) = text.split_once('.').ok_or_else(error)?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        Ok(Self { major: major.parse().map_err(|_| error())?, minor: rest[..digits].parse().map_err(|_| error())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_name_is_cut_to_its_version() {
        assert_eq!("5.10.0-39-cloud-amd64".parse(), Ok(Version::new(5, 10)));
        assert_eq!("7.3-rc2".parse(), Ok(Version::new(7, 3)));
        assert_eq!("4.18".parse::<Version>().unwrap().to_string(), "4.18");
        assert!(Version::new(5, 4) < Version::new(5, 10));
    }

    #[test]
    fn what_is_no_version_is_quoted() {
        for text in ["", "5", "five.ten", "5.", ".5", "5.x"] {
            assert_eq!(
                text.parse::<Version>().unwrap_err().to_string(),
                format!("{text:?} is not a kernel version such as 5.10")
            );
        }
    }
}
