//! What the verifier's last words mean, and what to do about it: a table over the messages of Linux 4.18 to 7.3.

/// Which place of the failing instruction a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// None, or it cannot be told.
    Nothing,
    /// The register of the message's first number.
    Named,
    /// The register whose address the instruction reads or writes at.
    Base,
    /// The slot of the stack that it reads.
    Slot,
    /// Its destination register.
    Dst,
    /// R0.
    Result,
}

/// A message of the verifier.
#[derive(Debug)]
pub(super) struct Known {
    /// As the kernel prints it, `{}` standing for what differs. A message that begins so is meant as well.
    pub pattern: &'static str,
    /// What went wrong, in a few words.
    pub title: &'static str,
    /// Why that is refused. `{0}`, `{1}` stand for what differed, `{place}` and `{is}` for the place and what it holds.
    pub reason: &'static str,
    /// What to do.
    pub suggestion: &'static str,
    /// What it is about.
    pub about: About,
}

const fn known(
    pattern: &'static str,
    title: &'static str,
    reason: &'static str,
    suggestion: &'static str,
    about: About,
) -> Known {
    Known { pattern, title, reason, suggestion, about }
}

const INIT: &str = "write it on every path that leads here; a call uses up R1 to R5, so keep what is needed after it in R6 to R9 or on the stack";
const CHECK: &str = "compare it with a limit first, unsigned (`if r1 > LIMIT goto out`), or cut it with `&=`, and use the same register after that";
const NULL: &str = "compare it with 0 first, and go on only where it is not: `if r0 == 0 goto out`";
const POINTER: &str = "keep the pointer in a register of its own; read the kernel's memory by bpf_probe_read_kernel, before Linux 5.5 by bpf_probe_read";
const ARITHMETIC: &str =
    "add or subtract only numbers with known limits, in 64 bits, and do everything else with numbers";
const STACK: &str =
    "a frame has 512 bytes, from r10 - 512 up to r10; write every byte before a call or an instruction reads it";
const LOOP: &str = "count with a number that has a limit which the verifier can see, or use bpf_loop (Linux 5.17); before Linux 5.3 write the loop out";
const SPILL: &str = "write and read a pointer in the stack with all its 8 bytes, at an address that is a multiple of 8";
const LEAK: &str =
    "store numbers only; a program that has CAP_PERFMON (before Linux 5.8: CAP_SYS_ADMIN) may hand out addresses";
const CTX: &str = "see what the type of program has in its context: offset and size must be those of a member";
const SMALLER: &str =
    "make it do less, or split it: fewer branches before the expensive part, functions of their own, tail calls";
const CALL: &str = "give the call what it takes";
const HELPER: &str = "use a helper that this type of program has on this kernel: `bpfkit features` lists them";

use About::{Base, Dst, Named, Nothing, Result, Slot};

/// The messages. The first that fits is taken, and of several lines that fit the one that stands first here.
pub(super) static KNOWN: &[Known] = &[
    known(
        "R0 !read_ok",
        "unreadable register",
        "nothing was written to R0 on this path, and the instruction needs it",
        "write R0 on every path that leads here; every program and function gives back R0",
        Result,
    ),
    known(
        "R{} !read_ok",
        "unreadable register",
        "nothing was written to R{0} on this path, or a call has used it up",
        INIT,
        Named,
    ),
    known(
        "R{} invalid mem access '{}_or_null'",
        "pointer that may be NULL",
        "R{0} is {is}: the verifier cannot prove that it is not NULL here",
        NULL,
        Named,
    ),
    known(
        "R{} invalid mem access 'inv'",
        "a number used as a pointer",
        "R{0} is {is}, which is no pointer to the verifier",
        POINTER,
        Named,
    ),
    known(
        "R{} invalid mem access 'scalar'",
        "a number used as a pointer",
        "R{0} is {is}, which is no pointer to the verifier",
        POINTER,
        Named,
    ),
    known(
        "R{} invalid mem access 'ptr_or_null_",
        "pointer that may be NULL",
        "R{0} is {is}: the verifier cannot prove that it is not NULL here",
        NULL,
        Named,
    ),
    known(
        "R{} invalid mem access '{}'",
        "wrong kind of pointer",
        "R{0} is {is}, whose memory a program does not access so",
        POINTER,
        Named,
    ),
    known(
        "R{} min value is negative, either use unsigned index",
        "access outside of bounds",
        "R{0} may point before the beginning: it is {is}",
        CHECK,
        Named,
    ),
    known(
        "R{} min value is negative, either use unsigned or",
        "size without limits",
        "R{0} is a size and may be negative: it is {is}",
        CHECK,
        Named,
    ),
    known(
        "R{} unbounded memory access, make sure",
        "access outside of bounds",
        "R{0} may point anywhere: it is {is}",
        CHECK,
        Named,
    ),
    known(
        "R{} unbounded memory access, use",
        "size without limits",
        "R{0} is a size without an upper limit: it is {is}",
        CHECK,
        Named,
    ),
    known(
        "invalid access to map value, value_size={} off={} size={}",
        "access outside of bounds",
        "the value has {0} bytes, and the access of {2} bytes may begin at byte {1}",
        "access bytes within the value only; with a variable offset, compare it with a limit first",
        Base,
    ),
    known(
        "invalid access to map key, key_size={} off={} size={}",
        "access outside of bounds",
        "the key has {0} bytes, and the access of {2} bytes may begin at byte {1}",
        "access bytes within the key only",
        Base,
    ),
    known(
        "invalid access to memory, mem_size={} off={} size={}",
        "access outside of bounds",
        "there are {0} bytes, and the access of {2} bytes may begin at byte {1}",
        "access bytes within the memory only; with a variable offset, compare it with a limit first",
        Base,
    ),
    known(
        "invalid access to packet",
        "access outside of the packet",
        "nothing shows that the packet has these bytes: {place} is {is}",
        "compare the end of what is read with data_end first: `if r2 > r3 goto out`, r2 being the pointer plus its length",
        Base,
    ),
    known(
        "R{} offset is outside of the packet",
        "access outside of the packet",
        "nothing shows that the packet has these bytes: R{0} is {is}",
        "compare the end of what is read with data_end first",
        Named,
    ),
    known(
        "R{} min value is outside of the ",
        "access outside of bounds",
        "R{0} may point outside: it is {is}",
        CHECK,
        Named,
    ),
    known(
        "R{} max value is outside of the ",
        "access outside of bounds",
        "R{0} may point outside: it is {is}",
        CHECK,
        Named,
    ),
    known(
        "math between {} pointer and register with unbounded",
        "offset without limits",
        "a number without limits is added to a pointer to {0}",
        CHECK,
        Dst,
    ),
    known(
        "value {} makes {} pointer be out of bounds",
        "offset out of bounds",
        "{0} is too much to add to a pointer to {1}",
        CHECK,
        Dst,
    ),
    known(
        "{} pointer offset {} is not allowed",
        "offset out of bounds",
        "a pointer to {0} cannot be {1} bytes away",
        CHECK,
        Dst,
    ),
    known(
        "invalid indirect read from stack",
        "stack not written",
        "the call reads bytes of the stack that nothing was written to",
        STACK,
        Nothing,
    ),
    known(
        "invalid read from stack",
        "stack not written",
        "it reads bytes of the stack that nothing was written to, or that are not in the frame",
        STACK,
        Slot,
    ),
    known(
        "invalid write to stack",
        "access outside of the stack",
        "it writes bytes that are not in the frame",
        STACK,
        Nothing,
    ),
    known(
        "invalid indirect access to stack",
        "access outside of the stack",
        "the call is given more bytes than the stack has there",
        STACK,
        Nothing,
    ),
    known(
        "invalid stack type",
        "access outside of the stack",
        "the call is given bytes that are not in the frame",
        STACK,
        Nothing,
    ),
    known(
        "invalid stack off={} size={}",
        "access outside of the stack",
        "an access of {1} bytes at {0} is not in the frame",
        STACK,
        Nothing,
    ),
    known(
        "invalid unbounded variable-offset",
        "offset without limits",
        "the offset into the stack has no limits",
        CHECK,
        Base,
    ),
    known(
        "invalid variable-offset",
        "offset out of bounds",
        "the offset into the stack may be outside of the frame",
        CHECK,
        Base,
    ),
    known(
        "variable stack access",
        "offset that is not constant",
        "the address in the stack is not constant",
        "use a constant offset from r10, or a map of one element for larger things",
        Base,
    ),
    known(
        "variable ctx access",
        "offset that is not constant",
        "the address in the context is not constant",
        CTX,
        Base,
    ),
    known(
        "dereference of modified {} ptr R{} off={} disallowed",
        "pointer with an offset",
        "{place} is {is}, and must be used as it was given",
        "put the offset into the access: `*(u32 *)(r1 + 4)`, and leave the register as it is",
        Base,
    ),
    known(
        "attempt to corrupt spilled pointer on stack",
        "pointer written over in part",
        "the slot holds a pointer, and only a part of it is written",
        SPILL,
        Slot,
    ),
    known(
        "corrupted spill memory",
        "pointer read in part",
        "the slot held a pointer that was written over in part",
        SPILL,
        Slot,
    ),
    known(
        "invalid size of register spill",
        "pointer written in part",
        "a pointer takes 8 bytes, at an address that is a multiple of 8",
        SPILL,
        Nothing,
    ),
    known(
        "invalid size of register fill",
        "pointer read in part",
        "a pointer takes 8 bytes, at an address that is a multiple of 8",
        SPILL,
        Slot,
    ),
    known(
        "back-edge from insn {} to {}",
        "loop",
        "instruction {0} goes back to {1}, and this kernel or this user has no loops",
        LOOP,
        Nothing,
    ),
    known(
        "infinite loop detected at insn {}",
        "endless loop",
        "the verifier came to instruction {0} again and knew nothing new",
        LOOP,
        Nothing,
    ),
    known(
        "unreachable insn {}",
        "unreachable instruction",
        "nothing leads to instruction {0}",
        "remove it, or the jump or exit before it",
        Nothing,
    ),
    known(
        "jump out of range from insn {} to {}",
        "jump out of range",
        "instruction {0} jumps to {1}, which is outside of its function",
        "jump within the function only",
        Nothing,
    ),
    known(
        "jump into the middle of ldimm64 insn {}",
        "jump out of range",
        "instruction {0} is the second half of a constant",
        "jump to the beginning of instructions",
        Nothing,
    ),
    known(
        "last insn is not an exit or jmp",
        "no end",
        "a function's last instruction must not lead on to what follows",
        "end each function with exit or a jump",
        Nothing,
    ),
    known(
        "BPF program is too large. Processed {} insn",
        "too much to verify",
        "the verifier gave up after {0} instructions on all paths together",
        SMALLER,
        Nothing,
    ),
    known(
        "The sequence of {} jumps is too complex",
        "too much to verify",
        "more than {0} branches wait to be followed",
        SMALLER,
        Nothing,
    ),
    known(
        "combined stack size of {} calls is {}. Too large",
        "stack overflow",
        "{0} functions that call each other take {1} bytes of stack together, of 512",
        "keep large things in a map of one element for each CPU",
        Nothing,
    ),
    known(
        "the call stack of {} frames is too deep",
        "calls too deep",
        "no more than 8 functions may be under way",
        "call fewer functions from each other",
        Nothing,
    ),
    known(
        "unknown func {}",
        "helper not allowed",
        "{0} is not for this type of program, or this kernel lacks it",
        HELPER,
        Nothing,
    ),
    known(
        "program of this type cannot use helper {}",
        "helper not allowed",
        "{0} is not for this type of program",
        HELPER,
        Nothing,
    ),
    known("invalid func {}", "no such helper", "this kernel has no {0}", HELPER, Nothing),
    known(
        "cannot call GPL",
        "helper not allowed",
        "the helper is for programs under the GPL only",
        "state a licence that is compatible with the GPL",
        Nothing,
    ),
    known("R{} type={} expected={}", "wrong argument", "the call takes {2} in R{0}, which is {is}", CALL, Named),
    known(
        "Possibly NULL pointer passed",
        "pointer that may be NULL",
        "the call takes no pointer that may be NULL",
        NULL,
        Nothing,
    ),
    known(
        "R{} leaks addr",
        "address given away",
        "R{0} is {is}, and this user's programs must not give addresses away",
        LEAK,
        Named,
    ),
    known(
        "leaking pointer from stack",
        "address given away",
        "the stack holds an address there, and this user's programs must not give addresses away",
        LEAK,
        Nothing,
    ),
    known(
        "R{} pointer arithmetic on {} prohibited, null-check it first",
        "pointer that may be NULL",
        "R{0} is {is}: nothing can be added before it is known not to be NULL",
        NULL,
        Named,
    ),
    known(
        "R{} pointer arithmetic with {} operator prohibited",
        "arithmetic with a pointer",
        "R{0} is {is}, and {1} gives no pointer",
        ARITHMETIC,
        Named,
    ),
    known(
        "R{} pointer arithmetic on {} prohibited",
        "arithmetic with a pointer",
        "R{0} is {is}, to which nothing can be added",
        ARITHMETIC,
        Named,
    ),
    known(
        "R{} bitwise operator {} on pointer prohibited",
        "arithmetic with a pointer",
        "R{0} is {is}, and {1} gives no pointer",
        ARITHMETIC,
        Named,
    ),
    known(
        "R{} 32-bit pointer arithmetic prohibited",
        "arithmetic with a pointer",
        "R{0} is {is}, of which 32 bits are no pointer",
        ARITHMETIC,
        Named,
    ),
    known(
        "R{} pointer {} pointer prohibited",
        "arithmetic with two pointers",
        "R{0} is {is}, and so is the other operand a pointer",
        ARITHMETIC,
        Named,
    ),
    known(
        "R{} tried to {} from different maps, paths",
        "arithmetic with a pointer",
        "R{0} is another pointer on another path, and the processor might guess wrong",
        "do the arithmetic on each path by itself",
        Named,
    ),
    known(
        "R{} pointer comparison prohibited",
        "comparison of a pointer",
        "R{0} is {is}, and this user's programs must not learn addresses",
        LEAK,
        Named,
    ),
    known(
        "R{} partial copy of pointer",
        "arithmetic with a pointer",
        "R{0} is {is}, of which 32 bits are no pointer",
        ARITHMETIC,
        Named,
    ),
    known(
        "misaligned {} access off {} size {}",
        "misaligned access",
        "{2} bytes at {1} are not aligned",
        "access 2, 4 and 8 bytes at multiples of 2, 4 and 8",
        Nothing,
    ),
    known(
        "invalid bpf_context access off={} size={}",
        "no such member of the context",
        "the context of this type of program has nothing of {1} bytes at {0} that may be accessed so",
        CTX,
        Base,
    ),
    known(
        "BPF_ST stores into R{} {} is not allowed",
        "store of a constant",
        "R{0} is {is}, to which this kernel stores no constants",
        "put the constant into a register and store that",
        Named,
    ),
    known(
        "BPF_{} stores into R{} {} is not allowed",
        "atomic access",
        "R{1} is no memory for atomic operations",
        "use a map's value for atomic operations",
        Nothing,
    ),
    known(
        "frame pointer is read only",
        "write to r10",
        "r10 is the address of the frame and cannot be changed",
        "copy it first: `r2 = r10`, `r2 += -8`",
        Nothing,
    ),
    known(
        "write into map forbidden",
        "read-only map",
        "programs may not write to this map",
        "make the map without BPF_F_RDONLY_PROG, or write to another",
        Base,
    ),
    known("R{} cannot write into {}", "read-only memory", "R{0} is {is}, which cannot be written", POINTER, Named),
    known(
        "R{} invalid zero-sized read",
        "size may be 0",
        "R{0} is a size and may be 0: it is {is}",
        "compare it with 0 first",
        Named,
    ),
    known(
        "At program exit the register R0 has",
        "wrong result",
        "this type of program gives back other numbers: R0 is {is}",
        "set R0 to what the kernel expects before exit: mostly 0",
        Result,
    ),
    known(
        "Unreleased reference id={} alloc_insn={}",
        "reference not released",
        "what instruction {1} took must be given back before the program ends",
        "release it on every path",
        Nothing,
    ),
    known("div by zero", "division by zero", "the divisor is the constant 0", "divide by another number", Nothing),
    known(
        "invalid shift {}",
        "shift too far",
        "a register has not so many bits",
        "shift by less than 32 or 64",
        Nothing,
    ),
];

/// What stands for the `{}` of a pattern in a message that begins so.
pub(super) fn captures<'a>(pattern: &str, message: &'a str) -> Option<Vec<&'a str>> {
    let mut parts = pattern.split("{}");
    let mut rest = message.strip_prefix(parts.next()?)?;
    let mut found = Vec::new();
    for part in parts {
        let end = if part.is_empty() {
            // What differs and stands last is a word.
            rest.find([' ', ',']).unwrap_or(rest.len())
        } else {
            rest.find(part)?
        };
        let (capture, behind) = rest.split_at_checked(end)?;
        found.push(capture.trim_end_matches([',', '.', '!']));
        rest = behind.strip_prefix(part)?;
    }
    Some(found)
}

/// The message that the table knows, of all that was said.
pub(super) fn find(words: &[String]) -> Option<(&'static Known, Vec<&str>)> {
    KNOWN.iter().find_map(|known| words.iter().find_map(|line| Some((known, captures(known.pattern, line)?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages as kernels print them, each with the title and what differs.
    const MESSAGES: &[(&str, &str, &[&str])] = &[
        ("R0 !read_ok", "unreadable register", &[]),
        ("R3 !read_ok", "unreadable register", &["3"]),
        ("R6 invalid mem access 'map_value_or_null'", "pointer that may be NULL", &["6", "map_value"]),
        ("R1 invalid mem access 'inv'", "a number used as a pointer", &["1"]),
        ("R1 invalid mem access 'scalar'", "a number used as a pointer", &["1"]),
        ("R2 invalid mem access 'ptr_or_null_sock'", "pointer that may be NULL", &["2"]),
        ("R1 invalid mem access 'map_ptr'", "wrong kind of pointer", &["1", "map_ptr"]),
        (
            "R0 min value is negative, either use unsigned index or do a if (index >=0) check.",
            "access outside of bounds",
            &["0"],
        ),
        ("R2 min value is negative, either use unsigned or 'var &= const'", "size without limits", &["2"]),
        ("R0 unbounded memory access, make sure to bounds check any such access", "access outside of bounds", &["0"]),
        ("R2 unbounded memory access, use 'var &= const' or 'if (var < const)'", "size without limits", &["2"]),
        ("invalid access to map value, value_size=16 off=-8 size=8", "access outside of bounds", &["16", "-8", "8"]),
        ("invalid access to map key, key_size=4 off=4 size=4", "access outside of bounds", &["4", "4", "4"]),
        ("invalid access to memory, mem_size=8 off=8 size=1", "access outside of bounds", &["8", "8", "1"]),
        ("invalid access to packet, off=0 size=4, R2(id=0,off=0,r=0)", "access outside of the packet", &[]),
        ("R2 offset is outside of the packet", "access outside of the packet", &["2"]),
        ("R0 min value is outside of the allowed memory range", "access outside of bounds", &["0"]),
        ("R0 max value is outside of the array range", "access outside of bounds", &["0"]),
        ("R0 max value is outside of the allowed memory range", "access outside of bounds", &["0"]),
        (
            "math between map_value pointer and register with unbounded min value is not allowed",
            "offset without limits",
            &["map_value"],
        ),
        ("value -536870913 makes fp pointer be out of bounds", "offset out of bounds", &["-536870913", "fp"]),
        ("map_value pointer offset 536870912 is not allowed", "offset out of bounds", &["map_value", "536870912"]),
        ("invalid indirect read from stack R2 off -4+0 size 4", "stack not written", &[]),
        ("invalid read from stack R10 off=-8 size=8", "stack not written", &[]),
        ("invalid write to stack R10 off=-520 size=8", "access outside of the stack", &[]),
        ("invalid indirect access to stack R1 off=-8 size=16", "access outside of the stack", &[]),
        ("invalid stack type R1 off=-8 access_size=16", "access outside of the stack", &[]),
        ("invalid stack off=-520 size=8", "access outside of the stack", &["-520", "8"]),
        ("invalid unbounded variable-offset read from stack R2", "offset without limits", &[]),
        ("invalid variable-offset write to stack R2 var_off=(0x0; 0xf) off=-8 size=8", "offset out of bounds", &[]),
        ("variable stack access var_off=(0x0; 0xf) off=-16 size=1", "offset that is not constant", &[]),
        ("variable ctx access var_off=(0x0; 0xff) disallowed", "offset that is not constant", &[]),
        ("dereference of modified ctx ptr R1 off=8 disallowed", "pointer with an offset", &["ctx", "1", "8"]),
        ("attempt to corrupt spilled pointer on stack", "pointer written over in part", &[]),
        ("corrupted spill memory", "pointer read in part", &[]),
        ("invalid size of register spill", "pointer written in part", &[]),
        ("invalid size of register fill", "pointer read in part", &[]),
        ("back-edge from insn 4 to 2", "loop", &["4", "2"]),
        ("infinite loop detected at insn 1", "endless loop", &["1"]),
        ("unreachable insn 17", "unreachable instruction", &["17"]),
        ("jump out of range from insn 3 to 9", "jump out of range", &["3", "9"]),
        ("jump into the middle of ldimm64 insn 5", "jump out of range", &["5"]),
        ("last insn is not an exit or jmp", "no end", &[]),
        ("BPF program is too large. Processed 1000001 insn", "too much to verify", &["1000001"]),
        ("The sequence of 8193 jumps is too complex.", "too much to verify", &["8193"]),
        ("combined stack size of 2 calls is 544. Too large", "stack overflow", &["2", "544"]),
        ("the call stack of 9 frames is too deep !", "calls too deep", &["9"]),
        ("unknown func bpf_probe_read#4", "helper not allowed", &["bpf_probe_read#4"]),
        ("program of this type cannot use helper bpf_probe_read#4", "helper not allowed", &["bpf_probe_read#4"]),
        ("invalid func unknown#9999", "no such helper", &["unknown#9999"]),
        ("cannot call GPL-restricted function from non-GPL compatible program", "helper not allowed", &[]),
        ("R2 type=inv expected=fp, pkt, pkt_meta, map_value", "wrong argument", &["2", "inv", "fp"]),
        ("Possibly NULL pointer passed to trusted arg0", "pointer that may be NULL", &[]),
        ("R0 leaks addr as return value", "address given away", &["0"]),
        ("leaking pointer from stack off -8", "address given away", &[]),
        (
            "R0 pointer arithmetic on map_value_or_null prohibited, null-check it first",
            "pointer that may be NULL",
            &["0", "map_value_or_null"],
        ),
        ("R1 pointer arithmetic with *= operator prohibited", "arithmetic with a pointer", &["1", "*="]),
        ("R1 pointer arithmetic on map_ptr prohibited", "arithmetic with a pointer", &["1", "map_ptr"]),
        ("R1 bitwise operator &= on pointer prohibited", "arithmetic with a pointer", &["1", "&="]),
        ("R1 32-bit pointer arithmetic prohibited", "arithmetic with a pointer", &["1"]),
        ("R1 pointer += pointer prohibited", "arithmetic with two pointers", &["1", "+="]),
        ("R1 tried to add from different maps, paths, or prohibited types", "arithmetic with a pointer", &["1", "add"]),
        ("R1 pointer comparison prohibited", "comparison of a pointer", &["1"]),
        ("R1 partial copy of pointer", "arithmetic with a pointer", &["1"]),
        (
            "misaligned stack access off (0x0; 0x0)+0+-12 size 8",
            "misaligned access",
            &["stack", "(0x0; 0x0)+0+-12", "8"],
        ),
        ("invalid bpf_context access off=4000 size=8", "no such member of the context", &["4000", "8"]),
        ("BPF_ST stores into R1 ctx is not allowed", "store of a constant", &["1", "ctx"]),
        ("BPF_ATOMIC stores into R1 ctx is not allowed", "atomic access", &["ATOMIC", "1", "ctx"]),
        ("frame pointer is read only", "write to r10", &[]),
        ("write into map forbidden, value_size=8 off=0 size=8", "read-only map", &[]),
        ("R1 cannot write into rdonly_mem", "read-only memory", &["1", "rdonly_mem"]),
        ("R3 invalid zero-sized read", "size may be 0", &["3"]),
        ("At program exit the register R0 has value (0x2; 0x0) should have been in (0x0; 0x1)", "wrong result", &[]),
        ("Unreleased reference id=2 alloc_insn=7", "reference not released", &["2", "7"]),
        ("div by zero", "division by zero", &[]),
        ("invalid shift 64", "shift too far", &["64"]),
    ];

    #[test]
    fn every_message_is_known_and_every_row_is_needed() {
        let mut used = vec![false; KNOWN.len()];
        for (message, title, differs) in MESSAGES {
            let words = [(*message).to_owned()];
            let (known, captures) = find(&words).unwrap_or_else(|| panic!("{message}"));
            assert_eq!((known.title, captures.as_slice()), (*title, *differs), "{message}");
            used[KNOWN.iter().position(|row| std::ptr::eq(row, known)).unwrap()] = true;
        }
        let unused: Vec<&str> =
            KNOWN.iter().zip(&used).filter(|(_, used)| !**used).map(|(row, _)| row.pattern).collect();
        assert!(unused.is_empty(), "{unused:?}");
        assert!(find(&["verifier bug: something new".to_owned()]).is_none());
    }

    /// What a reason takes from a message is there.
    #[test]
    fn reasons_ask_for_no_more_than_the_message_has() {
        for known in KNOWN {
            let differs = known.pattern.matches("{}").count();
            for index in 0..9 {
                let asked = known.reason.contains(&format!("{{{index}}}"));
                assert!(!asked || index < differs, "{}", known.pattern);
            }
            let needs_place = known.reason.contains("{is}") || known.reason.contains("{place}");
            assert!(!needs_place || known.about != Nothing, "{}", known.pattern);
        }
    }
}
