//! From exec until the probes are attached, and the memory that it took.

use std::fs;
use std::time::Duration;

use crate::command::Program;
use crate::run::Running;
use crate::table::{Table, Values};
use crate::{Args, Result, proc};

/// What was measured of a tool.
#[derive(Debug, Default)]
pub struct Starts {
    /// Milliseconds until it was attached.
    ready: Values,
    /// Milliseconds of a processor that took.
    cpu: Values,
    /// MiB that were resident at most.
    memory: Values,
}

/// A tool, and the line that it writes when it is attached.
#[derive(Debug)]
pub struct Tool {
    /// How it is started.
    pub program: Program,
    /// How the line begins.
    pub line: &'static str,
}

impl Starts {
    fn add(&mut self, tool: &Tool) -> Result<()> {
        const MIB: f64 = 1024.0 * 1024.0;
        let mut running = Running::start(&tool.program)?;
        let ready = running.line(tool.line)?;
        let cpu = proc::cpu_time(running.pid()).ok_or("the kernel does not tell how long it ran")?;
        // What comes after attaching may take memory as well.
        std::thread::sleep(Duration::from_millis(100));
        let memory = proc::peak_memory(running.pid()).ok_or("it ended")?;
        running.end()?;
        self.ready.0.push(ready.as_secs_f64() * 1e3);
        self.cpu.0.push(Duration::from_nanos(cpu).as_secs_f64() * 1e3);
        self.memory.0.push(f64::from(u32::try_from(memory)?) / MIB);
        Ok(())
    }
}

/// Compares a tool with peers, all of which are run in turn.
pub fn rows(name: &str, runs: u16, ours: &Tool, peers: &[(&str, Result<Tool>)], table: &mut Table) -> Result<()> {
    let mut own = Starts::default();
    let mut others: Vec<Starts> = peers.iter().map(|_| Starts::default()).collect();
    // The first run of each reads its files from the disk.
    for round in 0..=runs {
        let mut warm = Starts::default();
        (if round == 0 { &mut warm } else { &mut own }).add(ours)?;
        for ((_, peer), starts) in peers.iter().zip(&mut others) {
            if let Ok(peer) = peer {
                (if round == 0 { &mut warm } else { starts }).add(peer)?;
            }
        }
    }
    for ((label, peer), starts) in peers.iter().zip(&others) {
        match peer {
            Ok(_) => {
                table.row(&format!("{name}: ready"), "ms", &own.ready, label, &starts.ready);
                table.row(&format!("{name}: CPU until ready"), "ms", &own.cpu, label, &starts.cpu);
                table.row(&format!("{name}: peak memory"), "MiB", &own.memory, label, &starts.memory);
            }
            Err(error) => table.skipped(name, error),
        }
    }
    Ok(())
}

/// bpftrace's script of a name, with a probe after the others that says that they are attached: a millisecond later.
pub fn bpftrace(args: &Args, name: &str, directory: &std::path::Path) -> Result<Tool> {
    let script = fs::read_to_string(args.peer_file(&format!("{name}.bt"))?)?;
    let path = directory.join(format!("{name}.bt"));
    fs::write(&path, format!("{script}\ninterval:ms:1 {{ printf(\"attached\\n\"); }}\n"))?;
    Ok(Tool { program: args.peer("bpftrace")?.with([path]), line: "attached" })
}

/// The tools that need no kprobes.
pub fn compare(args: &Args, table: &mut Table) -> Result<()> {
    let directory = tempfile::tempdir()?;
    for (name, ours, theirs) in [("gethostlatency", "TIME", "TIME"), ("execsnoop", "PCOMM", "PCOMM")] {
        let own = Tool { program: args.bpfkit()?.with([name]), line: ours };
        let libbpf = args.peer(&format!("{name}-libbpf")).map(|program| Tool { program, line: theirs });
        let peers = [("libbpf-tools", libbpf), ("bpftrace", bpftrace(args, name, directory.path()))];
        rows(name, args.runs, &own, &peers, table)?;
    }
    Ok(())
}
