//! Choosing a package by a pattern of its name: versions move on, so no name is pinned.

/// The packages of `names` that may hold an image for `version`, best first.
///
/// `version` is what follows the prefix, with `*` for any run of characters without a hyphen (so `-dbg` and `-unsigned`
/// variants never match). From 7.0 the image is in `linux-binary-*` and `linux-image-*` is a meta-package, hence the order
/// among equal versions.
pub fn candidates<'a>(names: impl IntoIterator<Item = &'a str>, version: &str) -> Vec<&'a str> {
    // The numbers of the flavour and the architecture are not the version's.
    let fixed = version.rsplit('*').next().unwrap_or_default();
    let mut found: Vec<(Vec<u64>, bool, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let (binary, rest) = match name.strip_prefix("linux-binary-") {
                Some(rest) => (true, rest),
                None => (false, name.strip_prefix("linux-image-")?),
            };
            matches(version, rest).then(|| (numbers(rest.strip_suffix(fixed).unwrap_or(rest)), binary, name))
        })
        .collect();
    found.sort();
    found.dedup();
    found.into_iter().rev().map(|(_, _, name)| name).collect()
}

/// Whether `name` is what `pattern` describes, to its end.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|tail| {
            let run = tail.find('-').unwrap_or(tail.len());
            (0..=run).any(|n| tail.get(n..).is_some_and(|tail| matches(rest, tail)))
        }),
    }
}

/// The numbers in a version, in order: what makes `6.12.100` newer than `6.12.96`.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_comes_first_by_number_and_not_by_letter() {
        let names = [
            "linux-image-6.12.96+deb13-cloud-amd64",
            "linux-image-6.12.100+deb13-cloud-amd64",
            "linux-image-6.12.100+deb13.1-cloud-amd64",
            "linux-image-6.12.101+deb13-cloud-amd64-dbg",
            "linux-image-6.12.101+deb13-cloud-amd64-unsigned",
            "linux-image-6.12.101+deb13-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.16.3+deb13-cloud-amd64",
        ];
        assert_eq!(
            candidates(names, "6.12.*-cloud-amd64"),
            [
                "linux-image-6.12.100+deb13.1-cloud-amd64",
                "linux-image-6.12.100+deb13-cloud-amd64",
                "linux-image-6.12.96+deb13-cloud-amd64"
            ]
        );
    }

    #[test]
    fn the_package_with_the_image_comes_before_its_meta_package() {
        let names = [
            "linux-image-7.2.12+deb13-cloud-amd64",
            "linux-binary-7.2.12+deb13-cloud-amd64",
            "linux-binary-unsigned-7.2.12+deb13-cloud-amd64",
            "linux-binary-7.2.9+deb13-cloud-amd64",
        ];
        assert_eq!(
            candidates(names, "7.2.*-cloud-amd64"),
            [
                "linux-binary-7.2.12+deb13-cloud-amd64",
                "linux-image-7.2.12+deb13-cloud-amd64",
                "linux-binary-7.2.9+deb13-cloud-amd64"
            ]
        );
    }

    #[test]
    fn an_abi_number_behind_a_hyphen_is_one_run() {
        let names =
            ["linux-image-5.10.0-9-cloud-amd64", "linux-image-5.10.0-46-cloud-amd64", "linux-image-5.10.0-46-amd64"];
        assert_eq!(
            candidates(names, "5.10.0-*-cloud-amd64"),
            ["linux-image-5.10.0-46-cloud-amd64", "linux-image-5.10.0-9-cloud-amd64"]
        );
        assert_eq!(candidates(["linux-binary-7.3-cloud-amd64"], "7.3*-cloud-amd64"), ["linux-binary-7.3-cloud-amd64"]);
        assert!(candidates(["linux-binary-7.30-x-cloud-amd64"], "7.3*-cloud-amd64").is_empty());
    }
}
