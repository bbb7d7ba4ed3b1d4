//! The machine that QEMU plays.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The emulator's name.
pub const QEMU: &str = "qemu-system-x86_64";

/// The processor that the translator plays: all that it can, but for what makes it slow and the cases do not ask for. It goes byte
/// by byte through the string instructions that kernels and C libraries take for fast (ERMS), looks through one table more
/// for each page with LA57, and forgets less of where pages are when the kernel reads a process's memory without SMAP.
const TCG_CPU: &str = "max,-erms,-la57,-smap";

/// Finds out whether there is an emulator, before anything is built for it.
///
/// # Errors
/// There is none.
pub fn check() -> Result<(), String> {
    let output = Command::new(QEMU).arg("--version").stdin(Stdio::null()).output();
    output.map(drop).map_err(|error| format!("run {QEMU}: {error} (Debian: apt-get install qemu-system-x86)"))
}

/// Who executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The processor.
    Kvm,
    /// QEMU's translator: slow, works everywhere.
    Tcg,
}

impl Accel {
    /// Whether this user may try KVM. Only a guest that answers shows that it works: some hosts have the device and refuse
    /// to run a guest.
    pub fn kvm_is_worth_a_try() -> bool {
        OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
    }
}

/// One virtual machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The first file system.
    pub initrd: PathBuf,
    /// The kernel's console, ttyS0, is written here.
    pub console: PathBuf,
    /// The guest's events, ttyS1, are written here.
    pub events: PathBuf,
    /// Processors.
    pub smp: u32,
    /// Memory in QEMU's notation, such as `512M`.
    pub memory: String,
    /// Words of the kernel's command line after our own, so that they win.
    pub append: Vec<String>,
    /// Who executes the guest's instructions.
    pub accel: Accel,
    /// How often the host's time-stamp counter counts in a millisecond, if it has one.
    pub tsc_khz: Option<u64>,
    /// Whether the kernel is known to be so new that it takes that from the command line.
    pub takes_tsc_khz: bool,
}

impl Machine {
    /// QEMU's arguments. There is no network and no disk: all that a guest needs is in the initramfs.
    pub fn arguments(&self) -> Vec<OsString> {
        let (accel, cpu, machine) = match self.accel {
            Accel::Kvm => ("kvm", "host", "q35"),
            // One thread for all of a guest's processors: kernels rewrite their own code while others run it, and with a thread
            // for each the translator now and then executes what is half written (`Oops: int3`). Several guests at a time
            // keep the host's processors busy all the same, and are done sooner so.
            // A kernel that measures the counter by the PIT now and then finds a fraction, and by the HPET a tenth less at most.
            Accel::Tcg => ("tcg,thread=single", TCG_CPU, if self.takes_tsc_khz { "q35" } else { "q35,pit=off" }),
        };
        let mut arguments: Vec<OsString> = ["-M", machine, "-cpu", cpu, "-accel", accel].map(OsString::from).to_vec();
        arguments.extend(["-smp".into(), self.smp.to_string().into(), "-m".into(), self.memory.as_str().into()]);
        arguments.extend(["-nodefaults", "-nographic", "-nic", "none", "-no-reboot"].map(OsString::from));
        arguments.extend(["-serial".into(), file(&self.console), "-serial".into(), file(&self.events)]);
        arguments.extend(["-kernel".into(), self.kernel.clone().into(), "-initrd".into(), self.initrd.clone().into()]);
        arguments.extend(["-append".into(), self.command_line().into()]);
        arguments
    }

    /// The kernel's command line: a panic reboots, which `-no-reboot` makes QEMU's end. Debian's 5.10 has programs at the hooks
    /// of security modules and leaves them out of its list, so that they would never run. The rest saves emulated instructions:
    /// no trial of every cipher while booting and no measuring of how unsteady the processor is (jitterentropy), no zeros in memory that its owner writes anyway, no string instructions for whole
    /// pages (112, REP_GOOD), no watchdog, and grace periods that are asked of the processors rather than waited for. And
    /// a timer that ticks late, because the host is busy, is no broken one, nor is the clock that the processor has: without
    /// it, each look at the time would go through an emulated device.
    fn command_line(&self) -> String {
        let mut words = vec!["console=ttyS0", "panic=-1", "quiet", "lsm=lockdown,capability,bpf"];
        words.extend(["cryptomgr.notests", "init_on_alloc=0", "no_timer_check", "tsc=reliable"]);
        words.extend(["clearcpuid=112", "rcupdate.rcu_expedited=1", "nowatchdog", "initcall_blacklist=jent_mod_init"]);
        // The translator's counter is the host's. How fast it is a kernel measures by an emulated timer, the PIT, and on a busy host one of
        // some twenty guests found a tenth of it, so that its clock was ten times too fast. Linux 5.9 and newer take it from here.
        let tsc = self.tsc_khz.filter(|_| matches!(self.accel, Accel::Tcg)).map(|khz| format!("tsc_early_khz={khz}"));
        words.extend(tsc.iter().chain(&self.append).map(String::as_str));
        words.join(" ")
    }
}

/// A comma in a path is doubled, as QEMU's option parser wants it.
fn file(path: &Path) -> OsString {
    format!("file:{}", path.display().to_string().replace(',', ",,")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_hold_the_two_ports_and_one_command_line() {
        let machine = Machine {
            kernel: "/k".into(),
            initrd: "/i".into(),
            console: "/logs/a,b.log".into(),
            events: "/logs/e".into(),
            smp: 2,
            memory: "512M".into(),
            append: vec!["bpfkit.filter=asm::".into(), "loglevel=7".into()],
            accel: Accel::Tcg,
            tsc_khz: Some(2_596_127),
            takes_tsc_khz: true,
        };
        let said = |machine: &Machine| -> Vec<String> {
            machine.arguments().into_iter().map(|argument| argument.to_string_lossy().into_owned()).collect()
        };
        let arguments = said(&machine);
        let line = arguments.join(" ");
        assert!(
            line.starts_with("-M q35 -cpu max,-erms,-la57,-smap -accel tcg,thread=single -smp 2 -m 512M"),
            "{line}"
        );
        assert!(line.contains("-serial file:/logs/a,,b.log -serial file:/logs/e"), "{line}");
        let words = arguments.last().map_or("", String::as_str);
        assert!(words.starts_with("console=ttyS0 panic=-1 quiet lsm=lockdown,capability,bpf "), "{words}");
        assert!(words.ends_with(" tsc_early_khz=2596127 bpfkit.filter=asm:: loglevel=7"), "{words}");
        let old = Machine { takes_tsc_khz: false, ..machine };
        assert_eq!(said(&old)[1], "q35,pit=off");
        let words = said(&Machine { accel: Accel::Kvm, ..old }).pop().unwrap_or_default();
        assert!(!words.contains("tsc_early_khz"), "KVM tells it: {words}");
    }
}
