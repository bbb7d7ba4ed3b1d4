//! The help of all commands, as a terminal of 80 columns shows it.

use bpfkit::cli::Cli;
use clap::Command;

/// The short and the long help of a command and of all below it.
fn helps(command: &mut Command, all: &mut Vec<(String, String)>) {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    all.push((format!("{name} -h"), command.render_help().to_string()));
    all.push((format!("{name} --help"), command.render_long_help().to_string()));
    command.get_subcommands_mut().for_each(|below| helps(below, all));
}

#[test]
fn no_line_is_wider_than_80_columns() {
    let mut all = Vec::new();
    helps(&mut Cli::whole(), &mut all);
    assert!(all.len() > 40, "{} texts", all.len());
    let wide: Vec<String> = all
        .iter()
        .flat_map(|(name, help)| help.lines().map(move |line| (name, line)))
        .filter(|(_, line)| line.chars().count() > 80)
        .map(|(name, line)| format!("{name}: {line}"))
        .collect();
    assert!(wide.is_empty(), "{}", wide.join("\n"));
}
