//! Reading the system's package sources, to learn which mirror of Debian this machine uses.
//!
//! The format is that of `sources.list(5)`, in both its forms. The mirror is never written into the repository: whoever runs
//! the matrix uses their own.

use std::fs;
use std::path::{Path, PathBuf};

/// One source of binary packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The base of its addresses, any scheme that apt knows.
    pub uri: String,
    /// The suites taken from it.
    pub suites: Vec<String>,
    /// The components taken from it.
    pub components: Vec<String>,
    /// The keyrings that sign it, when the source says so.
    pub signed_by: Vec<PathBuf>,
}

/// The addresses of Debian's two archives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Where the releases and backports are.
    pub main: String,
    /// Where the `*-security` suites are.
    pub security: String,
    /// The keyrings that the sources name.
    pub keyrings: Vec<PathBuf>,
}

/// Names under which Debian's suites go in somebody's sources, without a suffix such as `-updates`.
const SUITES: &[&str] = &[
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// The sources below `etc` (`/etc/apt`): `sources.list`, then `sources.list.d`.
pub fn read(etc: &Path) -> Vec<Source> {
    let mut files = vec![etc.join("sources.list")];
    if let Ok(directory) = fs::read_dir(etc.join("sources.list.d")) {
        let mut parts: Vec<PathBuf> = directory.flatten().map(|entry| entry.path()).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut sources = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(parse_list(&text)),
            Some("sources") => sources.extend(parse_deb822(&text)),
            _ => {}
        }
    }
    sources
}

/// The one-line form: `deb [option=value ..] URI SUITE COMPONENT..`.
pub fn parse_list(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?;
    if !rest.starts_with(char::is_whitespace) {
        return None; // deb-src
    }
    rest = rest.trim_start();
    let mut signed_by = Vec::new();
    if let Some(bracket) = rest.strip_prefix('[') {
        let (options, after) = bracket.split_once(']')?;
        for option in options.split_whitespace() {
            if let Some(value) = option.strip_prefix("signed-by=") {
                signed_by = keyrings(value);
            }
        }
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source { uri: words.next()?, suites: vec![words.next()?], components: words.collect(), signed_by })
}

/// The deb822 form: stanzas of fields, where a line that begins with a space continues the field above it.
pub fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(stanza(&fields));
            fields.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

/// The sources of one stanza: one for each URI.
fn stanza(fields: &[(String, String)]) -> Vec<Source> {
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let words = |name: &str| field(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let disabled = ["no", "false", "off", "0"].contains(&field("enabled").to_ascii_lowercase().as_str());
    if disabled || !words("types").iter().any(|kind| kind == "deb") {
        return Vec::new();
    }
    let source = |uri| Source {
        uri,
        suites: words("suites"),
        components: words("components"),
        signed_by: keyrings(field("signed-by")),
    };
    words("uris").into_iter().map(source).collect()
}

/// The paths in a Signed-By value, which may also hold fingerprints or a whole key.
fn keyrings(value: &str) -> Vec<PathBuf> {
    value.split([',', ' ']).filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

impl Mirror {
    /// The mirror of Debian among `sources`.
    ///
    /// A foreign archive may use Debian's suite names too, so one whose keyring or path is Debian's is preferred.
    pub fn among(sources: &[Source]) -> Option<Mirror> {
        let best = |wanted: fn(&str) -> bool| {
            sources
                .iter()
                .filter(|source| source.components.iter().any(|component| component == "main"))
                .filter(|source| source.suites.iter().any(|suite| wanted(suite)))
                .max_by_key(|source| (likeness(source), std::cmp::Reverse(position(sources, source))))
        };
        let main = best(is_release)?;
        let security = best(is_security);
        let mut keyrings = main.signed_by.clone();
        keyrings.extend(security.iter().flat_map(|source| source.signed_by.clone()));
        keyrings.sort();
        keyrings.dedup();
        let mirror = Mirror::at(&main.uri);
        Some(Mirror { security: security.map_or(mirror.security, |source| source.uri.clone()), keyrings, ..mirror })
    }

    /// The mirror at `uri`, with the security archive beside it, where Debian's own mirrors have it.
    pub fn at(uri: &str) -> Mirror {
        let main = uri.trim_end_matches('/');
        Mirror { main: main.to_owned(), security: format!("{main}-security"), keyrings: Vec::new() }
    }

    /// Where `suite` is.
    pub fn uri(&self, suite: &str) -> &str {
        if suite.ends_with("-security") { &self.security } else { &self.main }
    }
}

fn position(sources: &[Source], source: &Source) -> usize {
    sources.iter().position(|other| other == source).unwrap_or(sources.len())
}

/// How much a source looks like Debian's own.
fn likeness(source: &Source) -> u8 {
    let keyring = source.signed_by.iter().any(|path| path.to_string_lossy().contains("debian-archive"));
    let last = source.uri.trim_end_matches('/').rsplit('/').next();
    u8::from(keyring) * 2 + u8::from(matches!(last, Some("debian" | "debian-security")))
}

fn is_release(suite: &str) -> bool {
    let name = suite.strip_suffix("-updates").or_else(|| suite.strip_suffix("-backports")).unwrap_or(suite);
    SUITES.contains(&name)
}

fn is_security(suite: &str) -> bool {
    suite.strip_suffix("-security").is_some_and(|name| SUITES.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
# the mirror
deb http://mirror.example/debian bookworm main contrib # a comment
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian-security bookworm-security main
#deb http://other.example/debian sid main
deb https://vendor.example/packages bookworm-vendor main
";

    const DEB822: &str = "\
Types: deb deb-src
# where
URIs: http://one.example/debian
  http://two.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: sid
Components: main

types: deb
uris: http://one.example/debian-security
suites: trixie-security
components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBGP/AbCd
";

    #[test]
    fn the_one_line_form_is_read_with_its_options() {
        let sources = parse_list(LIST);
        assert_eq!(sources.len(), 3);
        assert_eq!(sources[0].uri, "http://mirror.example/debian");
        assert_eq!(sources[0].suites, ["bookworm"]);
        assert_eq!(sources[0].components, ["main", "contrib"]);
        assert_eq!(sources[1].signed_by, [PathBuf::from("/usr/share/keyrings/debian-archive-keyring.gpg")]);
    }

    #[test]
    fn the_deb822_form_is_read_with_continuation_and_without_disabled_stanzas() {
        let sources = parse_deb822(DEB822);
        let uris: Vec<&str> = sources.iter().map(|source| source.uri.as_str()).collect();
        assert_eq!(
            uris,
            ["http://one.example/debian", "http://two.example/debian", "http://one.example/debian-security"]
        );
        assert_eq!(sources[0].suites, ["trixie", "trixie-updates"]);
        assert_eq!(sources[2].signed_by, Vec::<PathBuf>::new(), "a key in the file itself is no path");
    }

    #[test]
    fn the_mirror_is_found_in_either_form() {
        let mirror = Mirror::among(&parse_list(LIST)).expect("a mirror");
        assert_eq!(mirror.uri("sid"), "http://mirror.example/debian");
        assert_eq!(mirror.uri("bullseye-security"), "http://mirror.example/debian-security");
        let mirror = Mirror::among(&parse_deb822(DEB822)).expect("a mirror");
        assert_eq!(mirror.uri("trixie-backports"), "http://one.example/debian");
        assert_eq!(mirror.keyrings, [PathBuf::from("/usr/share/keyrings/debian-archive-keyring.gpg")]);
    }

    #[test]
    fn a_vendor_that_borrows_a_suite_name_is_not_taken_for_the_mirror() {
        let sources = parse_list(
            "deb https://vendor.example/12/prod bookworm main\ndeb http://mirror.example/debian/ bookworm main\n",
        );
        let mirror = Mirror::among(&sources).expect("a mirror");
        assert_eq!(mirror.main, "http://mirror.example/debian");
        assert_eq!(
            mirror.security, "http://mirror.example/debian-security",
            "beside the releases when none is configured"
        );
    }

    #[test]
    fn another_distribution_has_no_mirror() {
        assert_eq!(Mirror::among(&parse_list("deb http://archive.example/ubuntu noble main\n")), None);
        assert_eq!(Mirror::among(&[]), None);
    }
}
