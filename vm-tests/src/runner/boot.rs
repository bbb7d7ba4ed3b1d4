//! One kernel: boot it, follow its guest, end it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use crate::guest::case::Boot;
use crate::guest::{cases, sys};
use crate::protocol::Event;

use super::clock;
use super::image::BootImage;
use super::initramfs;
use super::machine::{Accel, Machine, QEMU};
use super::progress::{End, Progress};
use super::results::{KernelResult, Status};
use super::tail::Tail;
use super::unpacked;

/// What every VM of a run has in common.
pub struct Plan {
    /// Where logs and archives go.
    pub work: PathBuf,
    /// The archive of `initramfs::of_cases` or `initramfs::of_program`.
    pub initramfs: Vec<u8>,
    /// The case that stands for a program that is run in the place of the cases.
    pub program: Option<String>,
    /// The filters as they were given.
    pub filter: Vec<String>,
    /// The limit for a VM.
    pub timeout: Duration,
    /// The limit for a VM that says nothing.
    pub silence: Duration,
    /// Processors of a VM.
    pub smp: u32,
    /// Memory of a VM.
    pub memory: String,
    /// Words for the kernel's command line.
    pub append: Vec<String>,
    /// How often the host's time-stamp counter counts in a millisecond, if it has one.
    pub tsc_khz: Option<u64>,
    /// Whether KVM may be used; cleared by the first guest that it does not bring up.
    pub kvm: AtomicBool,
}

/// How long a guest under KVM may take to answer before it is given to the translator.
const KVM_PATIENCE: Duration = Duration::from_secs(15);
/// How long a guest may take to power off after its last word.
const POWER_OFF: Duration = Duration::from_secs(3);
/// What a log must have room for at least.
const ROOM: usize = 1 << 20;
/// How often the files are looked at.
const POLL: Duration = Duration::from_millis(50);
/// The word by which a boot says that addresses are always the same.
const FIXED: &str = "norandmaps";
/// What the console says of a kernel that gave up.
const PANIC: &str = "Kernel panic";
/// What it says before that, of what went wrong.
const OOPS: [&str; 3] = ["BUG: ", "Oops: ", "Trigger a crash"];
/// How much of the console is shown for a broken kernel.
const CONSOLE_LINES: usize = 20;

impl Plan {
    /// The ways in which a kernel is booted for what is to run, each with the number of its cases, which tells how long it takes.
    pub fn boots(&self) -> Vec<(Boot, usize)> {
        cases::boots().map(|boot| (boot, self.cases(boot).len())).filter(|&(_, cases)| cases != 0).collect()
    }

    /// What a guest runs that is booted in this way.
    fn cases(&self, boot: Boot) -> Vec<String> {
        match &self.program {
            Some(program) if boot.name.is_empty() => vec![program.clone()],
            Some(_) => Vec::new(),
            None => cases::selected_in(boot.name, &self.filter).into_iter().map(str::to_owned).collect(),
        }
    }

    /// Boots `image` in one way, and tells how its cases ended.
    ///
    /// A guest that panics under the translator is booted once more: the processor that it plays is not perfect. A panic of
    /// our making comes again, and the first one is noted in any case.
    ///
    /// # Errors
    /// The machinery is missing: no QEMU, or files that cannot be written.
    pub fn boot(&self, image: &BootImage, boot: Boot) -> Result<KernelResult, String> {
        if self.kvm.load(Ordering::Relaxed) {
            let result = self.attempt(image, boot, Accel::Kvm)?;
            if result.booted() {
                return Ok(result);
            }
            self.kvm.store(false, Ordering::Relaxed);
        }
        let first = self.attempt(image, boot, Accel::Tcg)?;
        let Status::Broken(reason) = &first.status else { return Ok(first) };
        if !first.console.iter().any(|line| line.contains(PANIC)) {
            return Ok(first);
        }
        let mut second = self.attempt(image, boot, Accel::Tcg)?;
        second.notes.push(format!("it was booted again, because at first {reason}"));
        Ok(second)
    }

    fn attempt(&self, image: &BootImage, boot: Boot, accel: Accel) -> Result<KernelResult, String> {
        let (begin, started) = (Instant::now(), clock::utc(SystemTime::now()));
        let logs = self.work.join("logs");
        let failed = |path: &Path, error| format!("write {}: {error}", path.display());
        fs::create_dir_all(&logs).map_err(|error| failed(&logs, error))?;
        let name = [image.name.as_str(), boot.name].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        let log = |suffix: &str| logs.join(format!("{}.{suffix}", name.join("-")));
        let machine = Machine {
            kernel: self.kernel(image, boot, accel),
            initrd: initramfs::keep(&self.work, &self.initramfs, image.btf.as_deref())?,
            console: log("log"),
            events: log("jsonl"),
            smp: boot.smp.unwrap_or(self.smp),
            memory: self.memory.clone(),
            append: self.command_line(image, boot),
            accel,
            tsc_khz: self.tsc_khz,
            // The oldest of the list that is fetched is 5.10.
            takes_tsc_khz: image.is_listed,
        };
        let qemu_log = log("qemu");
        for path in [&machine.console, &machine.events, &qemu_log] {
            // QEMU truncates them, but not before the first look at them. It says nothing when they cannot be written.
            make_room(path).map_err(|error| failed(path, error))?;
        }
        let stderr = fs::File::create(&qemu_log).map_err(|error| failed(&qemu_log, error))?;
        let mut emulator = Command::new(QEMU);
        emulator.args(machine.arguments()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        // Whatever ends the runner, nobody would end the guests.
        sys::die_with_parent(&mut emulator);
        let child = emulator.spawn().map_err(|error| format!("run {QEMU}: {error}"))?;

        let mut guest = Guest {
            qemu: Qemu(child),
            name: image.name.clone(),
            progress: Progress::new(self.cases(boot).iter().map(String::as_str)),
            events: Tail::new(&machine.events),
            console: Tail::new(&machine.console),
            begin,
            answered: None,
            heard: begin,
            cpu: Duration::ZERO,
        };
        let patience = if accel == Accel::Kvm { KVM_PATIENCE.min(self.timeout) } else { self.timeout };
        let end = guest.follow(patience, self.timeout, self.silence);
        drop(guest.qemu);

        let console = console_lines(&machine.console);
        let end = end.unwrap_or_else(|| End::Exited(last_words(&console, &qemu_log)));
        let finished = guest.progress.finish(&end);
        let broken = matches!(finished.status, Status::Broken(_));
        Ok(KernelResult {
            name: image.name.clone(),
            origin: image.origin.clone(),
            release: finished.release,
            status: finished.status,
            started,
            boot_seconds: guest.answered.unwrap_or_default().as_secs_f64(),
            seconds: begin.elapsed().as_secs_f64(),
            cpu_seconds: guest.cpu.as_secs_f64(),
            notes: finished.notes,
            output: finished.output,
            console: if broken { last_lines(console) } else { Vec::new() },
            cases: finished.cases,
        })
    }

    /// What is booted. An emulated processor takes as long to unpack a kernel as for a third of the rest of its boot, so that this is
    /// done for it, and once for all boots; but where addresses are to be random, which the kernel's own decompressor sees to. Kernels
    /// from outside are booted as they came: the entry for machine monitors was Xen's alone before Linux 5.0, though it has the same note.
    fn kernel(&self, image: &BootImage, boot: Boot, accel: Accel) -> PathBuf {
        let is_plain = self.program.is_none() && accel == Accel::Tcg && boot.words.contains(&FIXED);
        let unpacked = (is_plain && image.is_listed).then(|| unpacked::vmlinux(&self.work, &image.kernel)).flatten();
        unpacked.unwrap_or_else(|| image.kernel.clone())
    }

    /// What the guest reads from /proc/cmdline. The user's words come last, so that they win.
    fn command_line(&self, image: &BootImage, boot: Boot) -> Vec<String> {
        // A program of others finds a kernel as it is.
        let of_cases = if self.program.is_some() { &[] } else { boot.words };
        let mut words: Vec<String> = of_cases.iter().map(|&word| word.to_owned()).collect();
        if !boot.name.is_empty() {
            words.push(format!("bpfkit.boot={}", boot.name));
        }
        if image.btf.is_some() {
            words.push(format!("bpfkit.btf={}", initramfs::BTF));
        }
        if !self.filter.is_empty() {
            words.push(format!("bpfkit.filter={}", self.filter.join(",")));
        }
        words.extend(self.append.iter().cloned());
        words
    }
}

/// A running emulator, which does not outlive the runner's interest in it.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // Both fail when it has ended by itself, which is the usual case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes an empty file where there is room for what QEMU will write.
fn make_room(path: &Path) -> std::io::Result<()> {
    fs::write(path, vec![0; ROOM])?;
    fs::write(path, "")
}

struct Guest {
    name: String,
    qemu: Qemu,
    progress: Progress,
    events: Tail,
    console: Tail,
    begin: Instant,
    answered: Option<Duration>,
    /// When the last event came.
    heard: Instant,
    /// The processors' time that the emulator has had.
    cpu: Duration,
}

impl Guest {
    /// Takes in events until the guest is done (`None`, as when QEMU ends) or its time is up.
    fn follow(&mut self, patience: Duration, limit: Duration, silence: Duration) -> Option<End> {
        let mut done = None;
        loop {
            self.cpu = cpu_time(self.qemu.0.id()).unwrap_or(self.cpu);
            // Asked before the files are read, so that what was written before the end is read after it.
            let ended = self.qemu.0.try_wait().map_or(true, |status| status.is_some());
            self.read();
            if ended {
                return None;
            }
            let elapsed = self.begin.elapsed();
            if self.progress.is_done() && elapsed > *done.get_or_insert(elapsed) + POWER_OFF {
                return None;
            }
            let allowed = if self.progress.answered() { limit } else { patience };
            if elapsed > allowed {
                return Some(End::TimedOut(allowed.as_secs()));
            }
            if self.progress.answered() && self.heard.elapsed() > silence {
                return Some(End::Silent(silence.as_secs()));
            }
            sleep(POLL);
        }
    }

    fn read(&mut self) {
        let events = self.events.lines();
        let console = self.console.lines();
        let events = events.iter().filter_map(|line| Event::parse(line));
        for event in events.chain(console.iter().filter_map(|line| Event::parse_console(line))) {
            self.heard = Instant::now();
            if let Event::Output { error, text } = &event {
                show(&self.name, *error, text);
            }
            self.progress.event(event);
        }
        if self.answered.is_none() && self.progress.answered() {
            self.answered = Some(self.begin.elapsed());
        }
    }
}

/// The processors' time that a process and its threads have had, as `proc_pid_stat(5)` gives it: in its own code and in the kernel.
fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name may have anything in it; what follows is numbers, of which the 14th and 15th of all are looked for.
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).map_while(|word| word.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

/// Shows what a program wrote, with the kernel in front, because several may write at a time.
fn show(kernel: &str, error: bool, text: &str) {
    let text = text.trim_end_matches('\n');
    if error {
        eprintln!("{kernel}| {text}");
    } else {
        println!("{kernel}| {text}");
    }
}

/// The console's lines without what only a terminal understands.
fn console_lines(path: &Path) -> Vec<String> {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    text.lines().map(printable).filter(|line| !line.trim().is_empty()).collect()
}

/// Leaves out control characters and escape sequences: those of firmware are `ESC c` and `ESC [ .. letter`.
fn printable(line: &str) -> String {
    let mut text = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next() == Some('[') {
                chars.by_ref().find(char::is_ascii_alphabetic);
            }
        } else if !c.is_control() {
            text.push(c);
        }
    }
    text
}

/// The end of the console: from what went wrong on, because what follows it is long and says less.
fn last_lines(mut console: Vec<String>) -> Vec<String> {
    let end = console.len().saturating_sub(CONSOLE_LINES);
    let went_wrong = |line: &String| line.contains(PANIC) || OOPS.iter().any(|oops| line.contains(oops));
    let from = console.iter().position(went_wrong).map_or(end, |at| at.min(end));
    console.drain(..from);
    console.truncate(CONSOLE_LINES);
    console
}

/// The most telling line there is: the panic, else what QEMU said, else the console's last line.
fn last_words(console: &[String], qemu_log: &Path) -> String {
    if let Some(panic) = console.iter().find(|line| line.contains(PANIC)) {
        return panic.clone();
    }
    let qemu = fs::read_to_string(qemu_log).unwrap_or_default();
    match (qemu.lines().next_back(), console.last()) {
        (Some(line), _) => line.to_owned(),
        (None, Some(line)) => format!("QEMU ended after the console's line {line:?}"),
        (None, None) => "QEMU ended without a word".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_was_spent_is_counted() {
        let begin = Instant::now();
        let me = std::process::id();
        let before = cpu_time(me).expect("a time");
        while cpu_time(me).expect("a time") < before + Duration::from_millis(30) {
            assert!(begin.elapsed() < Duration::from_secs(20), "it does not grow");
        }
        assert_eq!(cpu_time(u32::MAX), None);
    }

    #[test]
    fn a_line_is_shown_without_escape_sequences() {
        assert_eq!(printable("\u{1b}c\u{1b}[?7l\u{1b}[2J\u{1b}[0mSeaBIOS\r"), "SeaBIOS");
        assert_eq!(printable("\u{1b}[12"), "");
    }

    #[test]
    fn the_end_of_the_console_begins_with_the_panic() {
        let lines = |panic: usize| {
            let line = |i: usize| if i == panic { "Kernel panic".to_owned() } else { i.to_string() };
            last_lines((0..100).map(line).collect())
        };
        assert_eq!(lines(30)[0], "Kernel panic");
        let line = |i: usize| if i == 40 { "BUG: kernel NULL pointer dereference".to_owned() } else { i.to_string() };
        assert!(last_lines((0..100).map(line).collect())[0].starts_with("BUG: "), "and before it with what led to it");
        assert_eq!((lines(95)[0].as_str(), lines(95).len()), ("80", CONSOLE_LINES), "and some lines before a late one");
        assert_eq!(lines(200).last().map(String::as_str), Some("99"));
    }

    #[test]
    fn a_full_disk_is_found_before_the_boot() {
        let error = make_room(Path::new("/dev/full")).expect_err("no room");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        let directory = tempfile::tempdir().expect("directory");
        let log = directory.path().join("log");
        make_room(&log).expect("room");
        assert_eq!(fs::metadata(&log).map(|meta| meta.len()).ok(), Some(0));
    }

    #[test]
    fn the_panic_is_the_most_telling_line() {
        let directory = tempfile::tempdir().expect("directory");
        let log = directory.path().join("qemu");
        let console = ["[1.0] Kernel panic - not syncing: no init".to_owned(), "[1.1] Rebooting".to_owned()];
        assert_eq!(last_words(&console, &log), console[0]);
        assert!(last_words(&console[1..], &log).contains("Rebooting"));
        fs::write(&log, "qemu: warning\nqemu: could not load kernel\n").expect("write");
        assert_eq!(last_words(&[], &log), "qemu: could not load kernel");
    }
}
