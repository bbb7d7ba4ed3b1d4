//! What CONTRIBUTING.md says of the packages that others keep, against the manifests and the packages themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What cargo knows of all packages that are built here: those of other systems have never been fetched.
fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    command.args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &platform]);
    command.current_dir(root());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The packages of others that the workspace's own name: package by name.
fn direct(metadata: &Value) -> BTreeMap<String, Value> {
    let members: BTreeSet<&str> = array(metadata, "workspace_members").iter().filter_map(Value::as_str).collect();
    let is_member = |package: &&Value| members.contains(text(package, "id"));
    // What has no source is a path: a package of this workspace.
    let asked: BTreeSet<(&str, &str)> = array(metadata, "packages")
        .iter()
        .filter(is_member)
        .flat_map(|package| array(package, "dependencies"))
        .filter(|dependency| !dependency["source"].is_null())
        .map(|dependency| (text(dependency, "name"), text(dependency, "req")))
        .collect();
    let names: BTreeSet<&str> = asked.iter().map(|(name, _)| *name).collect();
    // Of a package that is there in several versions, the one that the workspace resolves to.
    let resolved: BTreeSet<&str> = array(&metadata["resolve"], "nodes")
        .iter()
        .filter(|node| members.contains(text(node, "id")))
        .flat_map(|node| array(node, "deps"))
        .map(|dependency| text(dependency, "pkg"))
        .collect();
    array(metadata, "packages")
        .iter()
        .filter(|package| names.contains(text(package, "name")) && resolved.contains(text(package, "id")))
        .map(|package| (text(package, "name").to_owned(), package.clone()))
        .collect()
}

/// The rows of the table: what a package is for, who keeps it, and what it may do.
fn notes() -> BTreeMap<String, [String; 3]> {
    let guide = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let (_, part) = guide.split_once("## Dependencies").unwrap();
    let rows = part.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, cells @ ..] = cells.as_slice() else { panic!("{row}") };
        let cells: [&str; 3] = cells.try_into().unwrap_or_else(|_| panic!("{row}"));
        ((*name).to_owned(), cells.map(str::to_owned))
    })
    .collect()
}

#[test]
fn each_dependency_has_a_note_and_each_note_a_dependency() {
    let (packages, notes) = (direct(&metadata()), notes());
    assert!(packages.len() > 10, "{:?}", packages.keys());
    let named: Vec<_> = notes.keys().collect();
    assert_eq!(packages.keys().collect::<Vec<_>>(), named, "left: Cargo.toml; right: CONTRIBUTING.md");
    for (name, cells) in &notes {
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{name}: {cells:?}");
    }
}

#[test]
fn a_note_says_what_a_package_does_while_it_is_built_and_whether_it_has_unsafe_code() {
    let notes = notes();
    for (name, package) in direct(&metadata()) {
        let Some([_, _, does]) = notes.get(&name) else { panic!("{name} has no note") };
        let has_kind = |wanted: &str| {
            array(&package, "targets").iter().any(|target| array(target, "kind").iter().any(|kind| kind == wanted))
        };
        assert_eq!(does.contains("build script"), has_kind("custom-build"), "{name}: {does}");
        let source = Path::new(text(&package, "manifest_path")).parent().unwrap().join("src");
        let library = fs::read_to_string(source.join("lib.rs")).unwrap();
        assert_eq!(does.contains("forbids unsafe"), library.contains("#![forbid(unsafe_code)]"), "{name}: {does}");
        // Where it is not forbidden, what there is of it is told.
        let is_told = does.contains("unsafe") || does.contains("no code");
        assert!(is_told || !mentions_unsafe(&source), "{name}: {does}");
    }
}

/// Whether a block or function in some file below is unsafe.
fn mentions_unsafe(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return mentions_unsafe(&path);
        }
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        let is_unsafe = |line: &str| !line.trim_start().starts_with("//") && line.contains("unsafe {");
        is_rust && fs::read_to_string(&path).is_ok_and(|text| text.lines().any(is_unsafe))
    })
}
