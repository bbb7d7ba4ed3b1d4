//! The list of kernels: the one place that says which lines are tested and where their images come from.

/// A line of kernels that the matrix names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// How the line is called on the command line and in the results.
    pub name: &'static str,
    /// Where an image of it comes from.
    pub image: Image,
}

/// Where the image of a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The newest package of Debian whose name matches `linux-binary-VERSION` or `linux-image-VERSION`.
    Debian {
        /// What follows the prefix; `*` stands for anything without a hyphen. Versions move on, so nothing is pinned.
        version: &'static str,
        /// The suites that hold it, best first: the small ones come first because their index is quick to read.
        suites: &'static [&'static str],
    },
    /// No suite carries it: `--kernel PATH` brings it.
    BringYourOwn,
}

/// Every line, oldest first.
pub const KERNELS: &[Kernel] = &[
    Kernel { name: "4.18", image: Image::BringYourOwn },
    Kernel { name: "4.19", image: Image::BringYourOwn },
    Kernel { name: "5.4", image: Image::BringYourOwn },
    debian("5.10", "5.10.0-*-cloud-amd64", &["bullseye-security", "bullseye"]),
    Kernel { name: "5.15", image: Image::BringYourOwn },
    debian("6.1", "6.1.0-*-cloud-amd64", &["bookworm-security", "bookworm"]),
    Kernel { name: "6.6", image: Image::BringYourOwn },
    debian("6.12", "6.12.*-cloud-amd64", &["trixie-security", "trixie", "bookworm-backports"]),
    debian("6.16", "6.16.*-cloud-amd64", BACKPORTS),
    debian("6.17", "6.17.*-cloud-amd64", BACKPORTS),
    debian("6.18", "6.18.*-cloud-amd64", BACKPORTS),
    debian("6.19", "6.19.*-cloud-amd64", BACKPORTS),
    debian("7.0", "7.0.*-cloud-amd64", BACKPORTS),
    debian("7.1", "7.1.*-cloud-amd64", BACKPORTS),
    debian("7.2", "7.2.*-cloud-amd64", &["trixie-backports", "sid", "forky"]),
    debian("7.3-rc", "7.3*-cloud-amd64", &["experimental"]),
];

/// What runs when no kernel is named: the oldest and the newest that can be had, and the current stable release's.
pub const DEFAULT: &[&str] = &["5.10", "6.12", "7.2"];

const BACKPORTS: &[&str] = &["trixie-backports"];

const fn debian(name: &'static str, version: &'static str, suites: &'static [&'static str]) -> Kernel {
    Kernel { name, image: Image::Debian { version, suites } }
}

/// The line called `name`.
pub fn find(name: &str) -> Option<&'static Kernel> {
    KERNELS.iter().find(|kernel| kernel.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_default_ones_are_listed() {
        for (i, kernel) in KERNELS.iter().enumerate() {
            assert_eq!(KERNELS.iter().position(|other| other.name == kernel.name), Some(i), "{}", kernel.name);
        }
        for name in DEFAULT {
            assert!(find(name).is_some(), "{name}");
        }
    }
}
