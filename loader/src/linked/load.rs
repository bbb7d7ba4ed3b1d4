//! Loading: what the kernel is asked, and what is made of a refusal.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use bpfkit_asm::{Helper, SourceRef, Version};
use bpfkit_btf::Builder;

use super::Linked;
use crate::feature::Feature;
use crate::func::Linkage;
use crate::map::{Maps, with_memlock};
use crate::prog::Prog;
use crate::sys::bpf::{self, ProgInput, ProgLoad};
use crate::target::Target;
use crate::verifier::{Rejection, Verdict, has_instructions};
use crate::{Error, kernel};

/// How much room the verifier is given for its log at first: enough for most programs, as each trial goes through all of a program
/// again. What is not written takes no memory.
const LOG_FIRST: usize = 1 << 20;
/// The most that every kernel takes, `UINT_MAX >> 8`: before Linux 5.2 a byte more is EINVAL, and no log at all.
const LOG_MOST: usize = (16 << 20) - 1;
/// The most that is asked for to explain a rejection: what does not fit is explained without what the verifier knew.
const LOG_DETAIL: usize = 4 << 20;
// Linux before 5.2 refuses a byte more (bpf_verifier_log, `log->len_total > UINT_MAX >> 8`).
const _: () = assert!(LOG_MOST <= (u32::MAX >> 8) as usize && LOG_FIRST < LOG_MOST);

impl Linked {
    /// Refuses what belongs to a function of another program, which is to be loaded before it.
    fn need_no_other(&self) -> Result<(), Error> {
        let Some(func) = self.spec.attach.onto() else { return Ok(()) };
        let (name, program) = (func.program.clone(), self.spec.name.clone());
        Err(Error::Unknown { what: "the loaded program", name, program })
    }

    /// Loads it.
    ///
    /// # Errors
    /// A map that is not there; what the verifier says, with the place in the source.
    pub fn load(self, target: &Target, maps: &Maps) -> Result<Prog, Error> {
        self.need_no_other()?;
        let spec = self.spec.clone();
        self.load_at(target, maps, None).map_err(|error| spec.lacking(target, error))
    }

    /// Loads it, for a function of the program `onto` where there is one.
    pub(crate) fn load_at(self, target: &Target, maps: &Maps, onto: Option<BorrowedFd<'_>>) -> Result<Prog, Error> {
        let bytes = self.bytes(maps)?;
        let locked = || {
            let is_locked = self.reads_kernel() && target.lockdown() == Some("confidentiality");
            is_locked.then(|| {
                let what = format!("cannot load the program `{}`, which reads the kernel's memory", self.spec.name);
                Error::privileged(what, std::io::Error::from_raw_os_error(libc::EPERM))
            })
        };
        // Such a kernel takes the program before Linux 5.14, and has it read zeros.
        if target.version() < Version::new(5, 14)
            && let Some(error) = locked()
        {
            return Err(error);
        }
        let license = [self.spec.license.as_bytes(), b"\0"].concat();
        let attributes = self.attributes();
        let plain = ProgInput { insns: &bytes, license: &license, attach_prog: onto, ..Default::default() };
        let types = if target.has(Feature::ProgBtf) { self.types(target) } else { None };
        let input = types.as_ref().map_or(plain, |types| types.add_to(plain));
        let load = |input: ProgInput<'_>| with_memlock(|| bpf::prog_load(attributes, input, &mut []));
        let result = match load(input) {
            // The source lines are for people: a kernel that does not like them runs the program without.
            Err(_) if types.is_some() && !self.needs_types(target) => load(plain),
            result => result,
        };
        match result {
            Ok(fd) => Ok(Prog { fd: fd.into(), spec: self.spec.into(), found: self.found.into() }),
            // A newer one refuses the helper as if it were unknown.
            Err(error) => Err(locked().unwrap_or_else(|| self.rejected(attributes, input, plain, error))),
        }
    }

    fn reads_kernel(&self) -> bool {
        const READS: [Helper; 4] =
            [Helper::PROBE_READ, Helper::PROBE_READ_STR, Helper::PROBE_READ_KERNEL, Helper::PROBE_READ_KERNEL_STR];
        self.insns.iter().filter_map(|insn| insn.helper()).any(|helper| READS.contains(&helper))
    }

    /// What the verifier finds out about the program, instruction by instruction. Nothing is attached, and nothing stays.
    ///
    /// # Errors
    /// A map that is not there, want of privilege. That the program is refused is none: the verdict tells it.
    pub fn walk(&self, target: &Target, maps: &Maps) -> Result<Verdict, Error> {
        self.need_no_other()?;
        self.walk_at(target, maps, None).map_err(|error| self.spec.lacking(target, error))
    }

    /// The same, for a function of the program `onto` where there is one.
    pub(crate) fn walk_at(&self, target: &Target, maps: &Maps, onto: Option<BorrowedFd<'_>>) -> Result<Verdict, Error> {
        let bytes = self.bytes(maps)?;
        let license = [self.spec.license.as_bytes(), b"\0"].concat();
        let plain = ProgInput { insns: &bytes, license: &license, attach_prog: onto, ..Default::default() };
        // Source lines are not asked for: ours are at hand, and old kernels have none.
        let types = if self.needs_types(target) || onto.is_some() { self.types(target) } else { None };
        let input = types.as_ref().map_or(plain, |types| types.add_to(plain));
        let (log, result) = Self::ask(ProgLoad { log_level: Self::EVERY_STATE, ..self.attributes() }, input, LOG_MOST);
        match result {
            Err(error) if log.trim().is_empty() => {
                let what = format!("cannot ask the verifier about the program `{}`", self.spec.name);
                Err(Error::privileged(what, error))
            }
            result => Ok(Verdict::new(self.clone(), log, result.err())),
        }
    }

    /// The instructions as the kernel takes them, with the numbers of the maps.
    fn bytes(&self, maps: &Maps) -> Result<Vec<u8>, Error> {
        let mut insns = self.insns.clone();
        for (&slot, name) in &self.maps {
            let program = || self.spec.name.clone();
            let map = maps.get(name);
            let map = map.ok_or_else(|| Error::Unknown { what: "map", name: name.clone(), program: program() })?;
            insns[slot].imm = map.as_fd().as_raw_fd();
        }
        Ok(insns.iter().flat_map(|insn| insn.to_ne_bytes()).collect())
    }

    fn attributes(&self) -> ProgLoad {
        ProgLoad {
            prog_type: self.spec.attach.prog_type().0,
            kern_version: kernel::version_code().unwrap_or_default(),
            prog_name: bpf::object_name(&self.spec.name),
            expected_attach_type: self.spec.attach.expected(),
            attach_btf_id: self.attach_btf_id,
            ..Default::default()
        }
    }

    /// BPF_LOG_LEVEL2, and BPF_LOG_STATS (Linux 5.2) for the stack that each function takes. Before that any level above 1 is the same.
    const EVERY_STATE: u32 = 2 | 4;

    /// Loads with a log that grows until it is whole, or up to `most`; what was loaded goes at once.
    fn ask(attributes: ProgLoad, input: ProgInput<'_>, most: usize) -> (String, std::io::Result<()>) {
        let mut size = LOG_FIRST;
        loop {
            let mut log = vec![0; size];
            let result = bpf::prog_load(attributes, input, &mut log).map(drop);
            let is_cut = |error: &std::io::Error| error.raw_os_error() == Some(libc::ENOSPC);
            if size < most && result.as_ref().is_err_and(is_cut) {
                size = (size * 4).min(most);
                continue;
            }
            let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
            return (String::from_utf8_lossy(&log[..end]).into_owned(), result);
        }
    }

    /// Asks the verifier again, and has it say why. With the source lines it quotes them, unless it is them that it refuses and so
    /// never comes to the instructions.
    fn rejected(
        &self,
        attributes: ProgLoad,
        input: ProgInput<'_>,
        plain: ProgInput<'_>,
        error: std::io::Error,
    ) -> Error {
        let cannot = |error| {
            let what = format!("cannot load the program `{}`, {}", self.spec.name, self.spec.attach);
            Error::privileged(what, error)
        };
        // It is not the verifier that says so, and it might take the program with the next descriptor that is free.
        if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EINTR | libc::EAGAIN))
        {
            return cannot(error);
        }
        let ask = |input| Self::ask(ProgLoad { log_level: 1, ..attributes }, input, LOG_MOST).0;
        let (mut input, mut log) = (input, ask(input));
        if input.btf.is_some() && !has_instructions(&log) {
            (input, log) = (plain, ask(plain));
        }
        if log.trim().is_empty() {
            return cannot(error);
        }
        let detail = || Some(Self::ask(ProgLoad { log_level: Self::EVERY_STATE, ..attributes }, input, LOG_DETAIL).0);
        Error::Rejected(Box::new(Rejection::new(self, error, log, detail)))
    }

    /// Whether the kernel must be told the functions' types: it refuses a function's address without them, and a program that
    /// replaces a function; and without them a function is not global.
    fn needs_types(&self, target: &Target) -> bool {
        let has_global = self.spec.funcs.iter().any(|func| func.linkage == Linkage::Global);
        self.insns.iter().any(|insn| insn.is_func_address()) || has_global && target.has(Feature::GlobalFunc)
    }

    /// The slots at which another source line begins. The kernel wants one at each function's start; more of the same line tell    /// Types, functions and source lines for the kernel, where it takes them.
    fn types(&self, target: &Target) -> Option<Types> {
        let mut types = Builder::new();
        let mut func_info = Vec::new();
        let kind = self.spec.attach.context_of();
        for ((start, _), func) in self.funcs.iter().zip(&self.spec.funcs) {
            let func = func.add_to(&mut types, kind, target.has(Feature::GlobalFunc));
            func_info.extend(u32::try_from(*start).ok()?.to_ne_bytes());
            func_info.extend(func.0.to_ne_bytes());
        }
        let mut line_info = Vec::new();
        for (slot, source) in self.lines() {
            let slot = u32::try_from(slot).ok()?;
            line_info.extend([slot].into_iter().chain(line(&mut types, source)).flat_map(u32::to_ne_bytes));
        }
        let fd = with_memlock(|| bpf::btf_load(&types.finish())).ok()?;
        Some(Types { fd, func_info, line_info })
    }
}

/// What `struct bpf_line_info` says of a line: its file, its text, and where it is there.
pub(crate) fn line(types: &mut Builder, source: Option<SourceRef<'_>>) -> [u32; 3] {
    let (file, text, line, column) = match source {
        Some(SourceRef { file, text, line, column }) => (file, text, line, column),
        None => ("generated", "", 1, 1),
    };
    [types.string(file), types.string(text), line.min(0x003f_ffff) << 10 | column.min(0x3ff)]
}

struct Types {
    fd: OwnedFd,
    func_info: Vec<u8>,
    line_info: Vec<u8>,
}

impl Types {
    fn add_to<'a>(&'a self, input: ProgInput<'a>) -> ProgInput<'a> {
        ProgInput { func_info: &self.func_info, line_info: &self.line_info, btf: Some(self.fd.as_fd()), ..input }
    }
}
