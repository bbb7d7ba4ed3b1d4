//! A private apt: its own lists and cache below the work directory, one set for each suite, with the system's keyrings and
//! proxy settings. The system's own package state is neither read nor changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use super::sources::Mirror;

/// How long an index is believed before it is fetched again.
const FRESH: Duration = Duration::from_secs(12 * 3600);

/// One suite with its index on disk.
pub struct Suite {
    name: String,
    directory: PathBuf,
}

impl Suite {
    /// The suite called `name`, with its state below `root`. Its index is fetched when it is missing or old.
    ///
    /// # Errors
    /// What apt said; a suite whose signature this machine's keyrings do not vouch for is named as such.
    pub fn open(root: &Path, mirror: &Mirror, name: &str) -> Result<Suite, String> {
        // An absolute path, because apt takes a relative one to be below /etc/apt.
        let root = std::path::absolute(root).map_err(|error| format!("{}: {error}", root.display()))?;
        let suite = Suite { name: name.to_owned(), directory: root.join(name) };
        for part in ["lists/partial", "cache/archives/partial"] {
            let path = suite.directory.join(part);
            fs::create_dir_all(&path).map_err(|error| format!("create {}: {error}", path.display()))?;
        }
        let list = suite.directory.join("sources.list");
        let line = source_line(mirror, name, &system_keyrings(Path::new("/usr/share/keyrings")));
        let known = fs::read_to_string(&list).is_ok_and(|text| text == line);
        if !known || !suite.is_fresh() {
            fs::write(&list, &line).map_err(|error| format!("write {}: {error}", list.display()))?;
            suite.update()?;
        }
        Ok(suite)
    }

    /// The names of the suite's kernel packages.
    ///
    /// # Errors
    /// What apt said.
    pub fn kernel_packages(&self) -> Result<Vec<String>, String> {
        let output = self.run(Command::new("apt-cache").args(["pkgnames", "linux-"]))?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// Downloads a package into `directory` and says where it is.
    ///
    /// # Errors
    /// What apt said, such as 404 for a version that the mirror has already dropped.
    pub fn download(&self, package: &str, directory: &Path) -> Result<PathBuf, String> {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory).map_err(|error| format!("create {}: {error}", directory.display()))?;
        self.run(Command::new("apt-get").args(["download", package]).current_dir(directory))?;
        let entries = fs::read_dir(directory).map_err(|error| format!("read {}: {error}", directory.display()))?;
        entries
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .ok_or_else(|| format!("apt-get download {package} left no package in {}", directory.display()))
    }

    fn is_fresh(&self) -> bool {
        let stamp = fs::metadata(self.stamp()).and_then(|meta| meta.modified());
        stamp.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age < FRESH))
    }

    fn stamp(&self) -> PathBuf {
        self.directory.join("updated")
    }

    fn update(&self) -> Result<(), String> {
        let _ = fs::remove_file(self.stamp());
        self.run(Command::new("apt-get").arg("update")).map_err(|error| explain(&self.name, &error))?;
        fs::write(self.stamp(), "").map_err(|error| format!("write {}: {error}", self.stamp().display()))
    }

    /// Runs an apt command on this suite's state alone.
    fn run(&self, command: &mut Command) -> Result<Output, String> {
        let option = |name: &str, path: &str| format!("{name}={}", self.directory.join(path).display());
        for value in [
            option("Dir::Etc::SourceList", "sources.list"),
            option("Dir::State::Lists", "lists"),
            option("Dir::Cache", "cache"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Dir::Etc::Preferences=/dev/null".to_owned(),
            "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
            // The images are for x86-64 whatever else this machine may install.
            "APT::Architecture=amd64".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::Retries=2".to_owned(),
            // Without it a failed index is a warning, and the old one is used.
            "APT::Update::Error-Mode=any".to_owned(),
        ] {
            command.args(["-o", &value]);
        }
        let name = command.get_program().to_string_lossy().into_owned();
        let output = command.env("LC_ALL", "C").output().map_err(|error| format!("run {name}: {error}"))?;
        if output.status.success() {
            return Ok(output);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<&str> =
            stderr.lines().filter(|line| line.starts_with("E:") || line.starts_with("W:")).collect();
        let said = if errors.is_empty() { stderr.trim().to_owned() } else { errors.join("; ") };
        Err(format!("{name}: {said}"))
    }
}

/// The suite in the one-line form.
fn source_line(mirror: &Mirror, suite: &str, system: &[PathBuf]) -> String {
    let mut keyrings: Vec<String> =
        mirror.keyrings.iter().chain(system).map(|path| path.display().to_string()).collect();
    keyrings.sort();
    keyrings.dedup();
    let options = if keyrings.is_empty() { String::new() } else { format!("[signed-by={}] ", keyrings.join(",")) };
    format!("deb {options}{} {suite} main\n", mirror.uri(suite))
}

/// The archive's keyrings that this machine has: the newest suites are signed by keys that the oldest keyring lacks, and the
/// other way round. Keys that were withdrawn stay out.
fn system_keyrings(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let keyring = [".gpg", ".pgp", ".asc"].iter().any(|suffix| name.ends_with(suffix));
            keyring && name.starts_with("debian-archive-") && !name.contains("removed")
        })
        .collect();
    found.sort();
    found
}

/// Tells a signature that is not accepted apart from other failures, because it has another remedy.
fn explain(suite: &str, error: &str) -> String {
    let unsigned = ["NO_PUBKEY", "not signed", "couldn't be verified", "EXPKEYSIG", "Missing key"];
    if unsigned.iter().any(|sign| error.contains(sign)) {
        format!("this machine's keyrings do not vouch for suite {suite} (a newer debian-archive-keyring may): {error}")
    } else {
        format!("suite {suite}: {error}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_every_keyring_once_and_the_right_archive() {
        let mut mirror = Mirror::at("http://mirror.example/debian");
        let keyring = PathBuf::from("/usr/share/keyrings/debian-archive-keyring.gpg");
        mirror.keyrings.push(keyring.clone());
        assert_eq!(
            source_line(&mirror, "trixie-security", &[keyring, PathBuf::from("/k/debian-archive-trixie.gpg")]),
            "deb [signed-by=/k/debian-archive-trixie.gpg,/usr/share/keyrings/debian-archive-keyring.gpg] \
             http://mirror.example/debian-security trixie-security main\n"
        );
        assert_eq!(source_line(&Mirror::at("file:/m/debian/"), "sid", &[]), "deb file:/m/debian sid main\n");
    }

    #[test]
    fn withdrawn_keys_and_other_vendors_are_left_out() {
        let directory = tempfile::tempdir().expect("directory");
        for name in
            ["debian-archive-removed-keys.gpg", "debian-archive-keyring.pgp", "vendor.gpg", "debian-archive-x.txt"]
        {
            fs::write(directory.path().join(name), "").expect("write");
        }
        assert_eq!(system_keyrings(directory.path()), [directory.path().join("debian-archive-keyring.pgp")]);
    }

    #[test]
    fn a_missing_key_is_told_apart_from_a_missing_suite() {
        assert!(explain("sid", "apt-get: E: not signed").contains("keyrings do not vouch"));
        assert!(!explain("sid", "apt-get: E: 404 Not Found").contains("keyring"));
    }
}
