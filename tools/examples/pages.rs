//! Writes the page of each tool beside its documentation, which links to it:
//!
//! ```text
//! cargo doc --no-deps --package bpfkit
//! cargo run --package bpfkit --example pages -- target/x86_64-unknown-linux-gnu/doc tests/fixtures/btf/7.2.btf 7.2
//! ```
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use bpfkit::Output;
use bpfkit::cli::Cli;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [documentation, types, kernel] = arguments.as_slice() else {
        eprintln!("usage: pages DOCUMENTATION BTF VERSION");
        return ExitCode::from(2);
    };
    match write(Path::new(documentation), types, kernel) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pages: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(documentation: &Path, types: &str, kernel: &str) -> Result<(), String> {
    let directory = documentation.join("pages");
    fs::create_dir_all(&directory).map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    let cli = Cli::whole();
    let dump = cli.find_subcommand("dump").ok_or("there is no command `dump`")?;
    for tool in dump.get_subcommands().map(clap::Command::get_name) {
        let page = format!("{tool}.html");
        let file = directory.join(&page);
        let line = ["bpfkit", "dump", tool, "--format", "html", "--btf", types, "--kernel", kernel, "--output"];
        let line = line.into_iter().map(Into::into).chain([file.into_os_string()]);
        let command = Cli::read(line).map_err(|error| error.to_string())?.command;
        command.run(&mut Output::stdout()).map_err(|error| format!("{tool}: {error}"))?;
        // A link in documentation that leads nowhere is noticed by nobody else.
        let index = documentation.join("bpfkit").join(tool).join("index.html");
        let text = fs::read_to_string(&index).map_err(|error| format!("cannot read {}: {error}", index.display()))?;
        if !text.contains(&format!("href=\"../../pages/{page}\"")) {
            return Err(format!("{} has no link to pages/{page}", index.display()));
        }
    }
    Ok(())
}
