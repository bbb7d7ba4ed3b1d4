//! Process 1 of a test VM.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};

use crate::protocol::{CONSOLE_MARK, Event};

use super::program::Program;
use super::settings::Settings;
use super::{cases, harness, mounts, sys};

/// Where the events go.
enum Port {
    Serial(File),
    Console(File),
}

/// How many bytes of a file's pages the kernel maps where one of them is asked for: four times as many as it would by itself,
/// because processes that have just begun are what cases are made of, and an emulated processor takes long for a fault.
const FAULT_AROUND: (&str, &str) = ("/sys/kernel/debug/fault_around_bytes", "262144");

/// Sets the machine up, runs the cases, powers off.
pub fn run() -> ! {
    let mut notes = Vec::new();
    mounts::mount_all(&mut notes);
    // Nothing but time depends on it.
    let _ = fs::write(FAULT_AROUND.0, FAULT_AROUND.1);
    if let Err(error) = sys::loopback_up() {
        notes.push(format!("the loopback interface: {error}"));
    }
    let settings = Settings::of_vm(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    if let Err(error) = tell(&release, notes, &settings) {
        // Nobody hears the events, but the console is kept.
        eprintln!("guest: no port for the results: {error}");
    }
    sys::power_off()
}

fn tell(release: &str, notes: Vec<String>, settings: &Settings) -> io::Result<()> {
    let mut port = Port::open(&Event::Hello { release: release.to_owned(), notes })?;
    if let Some(program) = Program::of_vm() {
        program.run(&mut |event| port.send(event), sys::kill_all_others)?;
        return port.send(&Event::Done);
    }
    for name in cases::selected_in(&settings.boot, &settings.filter) {
        port.send(&Event::Start { case: name.to_owned() })?;
        let (outcome, time) = harness::run(name, settings);
        sys::kill_all_others();
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        port.send(&Event::Finish { case: name.to_owned(), outcome, millis })?;
    }
    port.send(&Event::Done)
}

impl Port {
    /// The second serial port, if the first event gets through it: opening one that the kernel does not have succeeds,
    /// only writing fails.
    fn open(first: &Event) -> io::Result<Port> {
        let open = |path| OpenOptions::new().write(true).open(path);
        if let Ok(mut file) = open("/dev/ttyS1")
            && sys::raw_terminal(&file).is_ok()
            && file.write_all(format!("{}\n", first.to_line()).as_bytes()).is_ok()
        {
            return Ok(Port::Serial(file));
        }
        let mut port = Port::Console(open("/dev/console")?);
        port.send(first)?;
        Ok(port)
    }

    fn send(&mut self, event: &Event) -> io::Result<()> {
        match self {
            Port::Serial(file) => file.write_all(format!("{}\n", event.to_line()).as_bytes()),
            // A line of its own, whatever the kernel was printing.
            Port::Console(file) => file.write_all(format!("\n{CONSOLE_MARK}{}\n", event.to_line()).as_bytes()),
        }
    }
}
