//! The guest: init of a VM when it is process 1, else a harness that runs cases in place.

pub mod case;
pub mod cases;
mod dwarf;
pub mod exec;
mod harness;
mod init;
mod leaks;
mod marks;
pub mod mounts;
mod packets;
pub mod program;
pub mod rooms;
mod settings;
pub mod sys;
pub mod tool;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use crate::protocol::Outcome;

use case::Ctx;
use settings::Settings;

const USAGE: &str = "usage: guest --list | guest --native [FILTER..]
Runs cases on the running kernel, as root, in a mount namespace of its own. As process 1 it is the init of a test VM.";

/// Does what this process was started for.
pub fn main() -> ExitCode {
    // A case may run this with arguments that are no text.
    let arguments: Vec<String> = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    // The first process of a pid namespace is a case, and no init.
    if std::process::id() == 1 && arguments.first().is_none_or(|word| word != harness::CASE) {
        init::run();
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--list"] => {
            cases::selected(&[]).into_iter().for_each(|name| println!("{name}"));
            ExitCode::SUCCESS
        }
        ["--native", filter @ ..] => native(&filter.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()),
        ["room", room, program, words @ ..] => rooms::enter(Path::new(room), program, words),
        // What other processes run: nothing, or nothing but waiting.
        ["idle", ..] => ExitCode::SUCCESS,
        ["linger", ..] => exec::linger(),
        ["exec", ..] => exec::main(),
        ["connect", addresses @ ..] => tool::connect(addresses),
        ["connects", number, address] => cases::load::connect(number, address),
        ["parent", words @ ..] => tool::parent(words),
        ["watch-usdt", without @ ..] => cases::usdt::watch(without),
        ["pass-usdt"] => cases::usdt::pass(),
        // How the harness starts a case, so that it has a process of its own: the result goes to the file.
        [harness::CASE, name, result, settings] => one(name, Path::new(result), settings),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Runs one case and writes how it ended.
fn one(name: &str, result: &Path, settings: &str) -> ExitCode {
    let (Some(case), Ok(settings)) = (cases::find(name), serde_json::from_str::<Settings>(settings)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let directory = result.with_extension("dir");
    let outcome = Ctx::new(settings, directory.clone()).and_then(|mut ctx| (case.run)(&mut ctx));
    let _ = std::fs::remove_dir_all(directory);
    let outcome: Outcome = outcome.into();
    match serde_json::to_vec(&outcome).map(|bytes| std::fs::write(result, bytes)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        error => {
            eprintln!("write {}: {error:?}", result.display());
            ExitCode::FAILURE
        }
    }
}

/// Runs cases here. The leak check is left out, because on a machine with other users their programs come and go.
fn native(filter: &[String]) -> ExitCode {
    // What needs another boot needs a VM.
    let selected = cases::selected_in("", filter);
    if selected.is_empty() {
        eprintln!("guest: no case has {} in its name", filter.join(" or "));
        return ExitCode::from(2);
    }
    if !sys::is_root() {
        eprintln!("guest: cases load programs and mount file systems, so they need root");
        return ExitCode::from(2);
    }
    // What is mounted for the cases must not be seen outside.
    if let Err(error) = sys::private_mounts() {
        eprintln!("guest: a mount namespace: {error}");
        return ExitCode::FAILURE;
    }
    let mut notes = Vec::new();
    mounts::mount_missing(&mut notes);
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    let settings = Settings::native();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for name in selected {
        let (outcome, time) = harness::run(name, &settings);
        match outcome {
            Outcome::Pass => passed += 1,
            Outcome::Skip(_) => skipped += 1,
            Outcome::Fail(_) | Outcome::NotRun(_) => failed += 1,
        }
        let reason = outcome.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
        println!("{} {name} ({} ms){reason}", outcome.word(), time.as_millis());
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    ExitCode::from(u8::from(failed > 0))
}
