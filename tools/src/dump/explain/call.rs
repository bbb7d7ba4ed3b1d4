//! Calls: of helpers, of functions of the program and of the kernel.

use std::rc::Rc;

use bpfkit_asm::{Helper, Opcode};

use super::Explainer;
use super::memory::copy_of;
use super::state::State;
use super::step::Step;
use super::value::{Base, Pair, Region, Thing, Value, count};

static PID_TGID: Pair = Pair { low: "the number of the thread", high: "the number of the process" };
static UID_GID: Pair = Pair { low: "the number of the user", high: "the number of the group" };
static NS_PID_TGID: Pair = Pair {
    low: "the number of the thread in the pid namespace",
    high: "the number of the process in the pid namespace",
};

/// How a helper copies memory.
struct Copy {
    /// Whose memory it reads.
    of: &'static str,
    is_string: bool,
}

impl Copy {
    fn of(helper: Helper) -> Option<Self> {
        let (of, is_string) = match helper {
            Helper::PROBE_READ => ("", false),
            Helper::PROBE_READ_STR => ("", true),
            Helper::PROBE_READ_KERNEL => ("the kernel's memory", false),
            Helper::PROBE_READ_KERNEL_STR => ("the kernel's memory", true),
            Helper::PROBE_READ_USER | Helper::COPY_FROM_USER => ("the process's memory", false),
            Helper::PROBE_READ_USER_STR => ("the process's memory", true),
            _ => return None,
        };
        Some(Self { of, is_string })
    }
}

impl Explainer<'_> {
    /// A call.
    pub(super) fn call(&self, row: &Step<'_>, state: &mut State) -> String {
        let insn = row.insn;
        if let Some(helper) = row.helper.filter(|_| insn.code == Opcode::CALL) {
            return self.call_helper(row, helper, state);
        }
        let (words, value) = if insn.is_local_call() {
            let name = row.to.and_then(|to| self.listing.function_at(to)).map_or("?", |func| func.name.as_str());
            (
                format!("call the function `{name}` of this program; r0 = what it gives"),
                Value::named(format!("the result of {name}")),
            )
        } else if insn.src() == 2 {
            let text = row.text();
            let name = text.split_once("call ").map_or("?", |(_, name)| name);
            let name = name.split('#').next().unwrap_or(name);
            (
                format!("call {name}, a function of the kernel; r0 = what it gives"),
                Value::named(format!("the result of {name}")),
            )
        } else {
            let text = row.text();
            let name = text.split_once("call ").map_or(&*text, |(_, name)| name);
            (format!("call {name}; r0 = what it gives"), Value::Unknown)
        };
        self.pass_stack(state);
        state.clobber();
        state.set(0, value);
        words
    }

    /// Whoever has an address of the stack may write there.
    fn pass_stack(&self, state: &mut State) {
        if (1..=5).any(|reg| matches!(state.reg(reg), Value::Address(Base::Stack, _))) {
            state.forget_stack();
        }
    }

    fn call_helper(&self, row: &Step<'_>, helper: Helper, state: &mut State) -> String {
        let (words, value) = self.known(row, helper, state).unwrap_or_else(|| self.any(row, helper, state));
        state.clobber();
        state.set(0, value);
        words
    }

    /// A helper of which the operands tell more than the table does.
    fn known(&self, row: &Step<'_>, helper: Helper, state: &mut State) -> Option<(String, Value)> {
        let map = || match state.reg(1) {
            Value::Map(name) => Some(Rc::clone(name)),
            _ => None,
        };
        match helper {
            Helper::MAP_LOOKUP_ELEM => {
                let map = map()?;
                let used = self.listing.maps.iter().find(|used| *used.name == *map);
                let key = state.memory(2, used.map(|used| used.key_size.into()), self.place);
                let cpu = if used.is_some_and(|used| used.kind.contains("percpu")) { " for this CPU" } else { "" };
                let doubt = (format!("map `{map}` has no such key").into(), format!("map `{map}` has the key").into());
                let words = format!("the value in map `{map}`").into();
                let region = Region { words, doubt: Some(doubt), from: row.slot };
                let words = format!(
                    "look in map `{map}`: key = {key}; r0 = the address of its value{cpu}, or 0 if there is none"
                );
                Some((words, Value::Address(Base::Region(Rc::new(region)), Some(0))))
            }
            Helper::MAP_UPDATE_ELEM => {
                let map = map()?;
                let used = self.listing.maps.iter().find(|used| *used.name == *map);
                let key = state.memory(2, used.map(|used| used.key_size.into()), self.place);
                let value = state.memory(3, used.map(|used| used.value_size.into()), self.place);
                let when = match state.reg(4) {
                    Value::Number(0) => ", whether or not the key is there".to_owned(),
                    Value::Number(1) => ", only if the key is not there yet".to_owned(),
                    Value::Number(2) => ", only if the key is there".to_owned(),
                    _ => format!(" (flags in r4: {})", state.noun(4)),
                };
                Some((
                    format!("write to map `{map}`: key = {key}, value = {value}{when}; r0 = 0, or a negative error"),
                    status(helper),
                ))
            }
            Helper::MAP_DELETE_ELEM => {
                let map = map()?;
                let used = self.listing.maps.iter().find(|used| *used.name == *map);
                let key = state.memory(2, used.map(|used| used.key_size.into()), self.place);
                Some((format!("remove from map `{map}`: key = {key}; r0 = 0, or a negative error"), status(helper)))
            }
            Helper::GET_CURRENT_COMM => {
                let &Value::Number(size) = state.reg(2) else { return None };
                let to = self.written_to(state, 1, Some(size), Value::named("the name of the current thread"));
                Some((
                    format!("copy the name (comm) of the current thread to {to}; r0 = 0, or a negative error"),
                    status(helper),
                ))
            }
            Helper::GET_NS_CURRENT_PID_TGID => {
                let &Value::Number(8) = state.reg(4) else { return None };
                let both = Thing {
                    pair: Some(&NS_PID_TGID),
                    ..Thing::new("the pair of thread and process numbers in the pid namespace")
                };
                let to = self.written_to(state, 3, Some(8), both.into());
                Some((
                    format!(
                        "copy the numbers that the current thread and process have in the pid namespace to {to}; r0 = 0, or a negative error"
                    ),
                    status(helper),
                ))
            }
            Helper::PERF_EVENT_OUTPUT => {
                let Value::Map(map) = state.reg(2) else { return None };
                let ring = match state.reg(3) {
                    Value::Number(0xffff_ffff) => "this CPU's ring".to_owned(),
                    Value::Number(cpu @ 0..0xffff_ffff) => format!("the ring of CPU {cpu}"),
                    _ => "the ring that r3 tells".to_owned(),
                };
                let len = match state.reg(5) {
                    Value::Number(len) => Some(*len),
                    _ => None,
                };
                let what = match len {
                    Some(_) => state.memory(4, len, self.place),
                    None => format!("as many bytes as r5 says, from {},", state.noun(4)),
                };
                Some((
                    format!("send {what} to user space, through {ring} of map `{map}`; r0 = 0, or a negative error"),
                    status(helper),
                ))
            }
            _ => self.copied(helper, state),
        }
    }

    /// A helper that copies memory.
    fn copied(&self, helper: Helper, state: &mut State) -> Option<(String, Value)> {
        let Copy { of, is_string } = Copy::of(helper)?;
        let len = match state.reg(2) {
            Value::Number(len) => Some(*len),
            _ => None,
        };
        let of_memory = if of.is_empty() { String::new() } else { format!(" of {of}") };
        let from = match state.reg(3) {
            Value::Unknown => "the address in r3".to_owned(),
            Value::Address(..) => state.noun(3),
            _ => format!("the address in r3 ({})", state.noun(3)),
        };
        let (what, value) = match (state.reg(3), len) {
            (_, len) if is_string => {
                let most = len.map_or_else(|| "as many bytes as r2 says".to_owned(), count);
                (format!("the string{of_memory} from {from}, at most {most} with its NUL,"), Value::Unknown)
            }
            (Value::Address(Base::Member(member), Some(more)), Some(len)) => {
                let words = Base::Member(Rc::clone(member)).bytes(Some(*more), len);
                (format!("{}{of_memory} ({words})", count(len)), copy_of(member, *more, len, self.place))
            }
            (_, Some(len)) => {
                let copied = if of.is_empty() { "memory" } else { of };
                let value = Value::named(format!("what was copied from {copied}"));
                (format!("{}{of_memory} from {from}", count(len)), value)
            }
            (_, None) => (format!("as many bytes{of_memory} as r2 says, from {from},"), Value::Unknown),
        };
        // How much of the room a string fills is not known.
        let to = self.written_to(state, 1, len, value);
        let gives = if is_string { "the string's bytes with its NUL" } else { "0" };
        Some((format!("copy {what} to {to}; r0 = {gives}, or a negative error"), status(helper)))
    }

    /// Notes that a helper writes where a register points to; that place, as a noun.
    fn written_to(&self, state: &mut State, reg: u8, len: Option<i64>, value: Value) -> String {
        let place = match state.reg(reg) {
            Value::Address(Base::Stack, Some(at)) => format!("the stack at r10{at:+}"),
            Value::Address(Base::Region(region), Some(0)) => format!("the start of {}", region.words),
            Value::Address(Base::Region(region), Some(at)) => format!("{}, from byte {at} on", region.words),
            Value::Unknown => format!("the address in r{reg}"),
            value => value.noun().unwrap_or_default(),
        };
        match (state.reg(reg).clone(), len) {
            (Value::Address(Base::Stack, Some(at)), Some(len)) => state.store(at, len, value),
            (Value::Address(Base::Stack, _), _) => state.forget_stack(),
            _ => {}
        }
        place
    }

    /// Any helper: what the table says, with the operands that are known.
    fn any(&self, row: &Step<'_>, helper: Helper, state: &mut State) -> (String, Value) {
        let Some(doc) = helper.doc() else {
            self.pass_stack(state);
            return (format!("call helper {}, which is not known here", helper.0), Value::Unknown);
        };
        let mut operands = Vec::new();
        let mut is_written = false;
        for (reg, param) in (1..).zip(doc.params().filter(|param| *param != "...")) {
            let name = param.rsplit([' ', '*']).next().unwrap_or(param);
            if let Some(noun) = state.reg(reg).noun() {
                operands.push(format!("{name}: {noun}"));
            }
            is_written |= matches!(state.reg(reg), Value::Address(Base::Stack, _)) && !param.starts_with("const ");
        }
        if is_written {
            state.forget_stack();
        }
        let operands = if operands.is_empty() { String::new() } else { format!(" ({})", operands.join(", ")) };
        let words = format!("{}{operands}; r0 = {}", doc.does, doc.gives);
        let words = if doc.gives.starts_with("nothing") { format!("{}{operands}", doc.does) } else { words };
        let name = helper.name().unwrap_or("the helper");
        let of = |words: &str| Thing::new(words);
        let value = match helper {
            Helper::GET_CURRENT_PID_TGID => {
                Thing { pair: Some(&PID_TGID), ..of("the pair of process and thread numbers") }.into()
            }
            Helper::GET_CURRENT_UID_GID => {
                Thing { pair: Some(&UID_GID), ..of("the pair of group and user numbers") }.into()
            }
            Helper::KTIME_GET_NS | Helper::KTIME_GET_BOOT_NS => of("the time in nanoseconds").into(),
            Helper::GET_SMP_PROCESSOR_ID => Thing { bytes: Some(4), ..of("the number of this CPU") }.into(),
            Helper::GET_CURRENT_CGROUP_ID => of("the id of the current thread's cgroup").into(),
            Helper::GET_CURRENT_TASK | Helper::GET_CURRENT_TASK_BTF => {
                Thing { to: Some("task_struct".into()), ..of("the address of the current thread's task_struct") }.into()
            }
            Helper::RINGBUF_RESERVE => {
                let words = "the room in the ring buffer".into();
                let doubt = ("there is no room in the ring buffer".into(), "there is room in the ring buffer".into());
                let region = Region { words, doubt: Some(doubt), from: row.slot };
                Value::Address(Base::Region(Rc::new(region)), Some(0))
            }
            _ if doc.gives.starts_with("nothing") => Value::Unknown,
            _ if doc.gives.contains("negative error") => status(helper),
            _ => Value::named(format!("what {name} gave")),
        };
        (words, value)
    }
}

/// What a helper gave that may have failed.
fn status(helper: Helper) -> Value {
    let words = format!("what {} gave", helper.name().unwrap_or("the helper"));
    Thing { status: Some(helper), ..Thing::new(words) }.into()
}
