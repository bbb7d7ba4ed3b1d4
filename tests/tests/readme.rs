//! What README.md shows is what there is.

use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

#[test]
fn the_program_of_ones_own_is_the_example() {
    let example = read("loader/examples/count_syscalls.rs");
    let code = example.split_once("\n\n").unwrap().1;
    assert!(read("README.md").contains(&format!("```rust\n{code}```")));
}

#[test]
fn ci_runs_the_test_commands() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    for command in ["cargo test --workspace", "cargo vm"] {
        assert!(readme.contains(command) && ci.contains(command), "{command}");
    }
}
