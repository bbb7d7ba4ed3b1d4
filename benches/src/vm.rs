//! tcpconnect beside libbpf-tools', which wants kprobes: in a virtual machine, which this program goes into with both of them.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use crate::command::Program;
use crate::run::Running;
use crate::start::{self, Tool};
use crate::table::{Table, Values};
use crate::{Args, Result, proc};

const PEER: &str = "tcpconnect-libbpf";
/// Where the peers' root directory is in the guest.
const ROOT: &str = "/peers";
const OURS: &str = "/root/bpfkit";

/// Boots a kernel, and prints the rows that `guest` makes there.
pub fn compare(args: &Args, table: &mut Table) -> Result<()> {
    let own = std::env::current_exe()?;
    let files = match args.files_of(PEER) {
        Ok(files) => files,
        Err(error) => {
            table.skipped("tcpconnect", error);
            return Ok(());
        }
    };
    let ours = args.bpfkit()?.command().get_program().to_owned();
    let mut command = Command::new("cargo");
    // Where programs are always at the same addresses, the emulator has translated both in the round before those that count: of
    // what it takes then less is its own.
    command.args(["vm", &args.kernel, "--append", "norandmaps", "--with"]).arg(format!("{}:{OURS}", ours.display()));
    for (file, place) in files {
        command.arg("--with").arg(format!("{}:{ROOT}/{}", file.display(), place.display()));
    }
    command.arg("--run").arg(own).args(["--peers", ROOT, "--bpfkit", OURS, "--runs", &args.runs.to_string(), "guest"]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mark = format!("{}| | ", args.kernel);
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with(&mark)).collect();
    if rows.is_empty() {
        return Err(format!("cargo vm made no row:\n{text}").into());
    }
    for row in rows {
        table.copied(row.split_once("| ").map_or(row, |(_, row)| row));
    }
    Ok(())
}

/// Ready times and memory, and the time that the programs take for the same connections.
pub fn guest(args: &Args) -> Result<()> {
    terminals()?;
    let mut table = Table::resume();
    let ours = Tool { program: args.bpfkit()?.with(["tcpconnect"]), line: "PID" };
    let theirs = Tool { program: args.peer(PEER)?, line: "PID" };
    fs::write("/proc/sys/kernel/bpf_stats_enabled", "1")?;
    let (mut own, mut other) = (Values::default(), Values::default());
    for _ in 0..args.runs {
        own.0.push(programs(&ours)?);
        other.0.push(programs(&theirs)?);
    }
    fs::write("/proc/sys/kernel/bpf_stats_enabled", "0")?;
    table.row("tcpconnect (VM): BPF programs' time a connection", "ns", &own, "libbpf-tools", &other);
    start::rows("tcpconnect (VM)", args.runs, &ours, &[("libbpf-tools", Ok(theirs))], &mut table)
}

/// Where terminals are; the guest has none.
fn terminals() -> Result<()> {
    const PLACE: &str = "/dev/pts";
    if !fs::exists(format!("{PLACE}/ptmx"))? {
        fs::create_dir_all(PLACE)?;
        rustix::mount::mount("devpts", PLACE, "devpts", rustix::mount::MountFlags::empty(), None::<&std::ffi::CStr>)?;
    }
    Ok(())
}

/// Nanoseconds of all programs of a tool for each connection.
fn programs(tool: &Tool) -> Result<f64> {
    const CONNECTIONS: u32 = 500;
    let mut running = Running::start(&Program::clone(&tool.program))?;
    running.line(tool.line)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let before = total(running.pid());
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(address)?;
        // The other end closes first, so that it is the one port that stays in use.
        drop(listener.accept()?);
        let _ = (&stream).read(&mut [0]);
    }
    let after = total(running.pid());
    running.end()?;
    if after.0 - before.0 < u64::from(CONNECTIONS) {
        return Err(format!("the programs ran {} times for {CONNECTIONS} connections", after.0 - before.0).into());
    }
    Ok(f64::from(u32::try_from(after.1 - before.1)?) / f64::from(CONNECTIONS))
}

/// Runs and nanoseconds of all programs of a process.
fn total(pid: u32) -> (u64, u64) {
    proc::programs(pid).values().fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1))
}
