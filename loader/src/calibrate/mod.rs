//! Where members of structures are, on a kernel that has no types and of which no file with types is at hand.
//!
//! The kernel is made to handle what is known beforehand: a connection between these addresses and ports, a ping with that
//! number. The raw bytes of the structure that it used are copied out by a probe, and the place where the known values lie is
//! where the member is. This is done several times with other values; a place that is not the only one, in all rounds, is
//! refused. Nothing is assumed of an order of members but what unions of the kernel fix: `skc_addrpair` and `skc_portpair`.

mod skb;
mod sock;

pub(crate) use skb::is_indirect;

use bpfkit_asm::{Asm, bpf};
use bpfkit_btf::{Field, TypeId};

use crate::read::ReadHelpers;
use crate::ring::{Event, PerfBuffer, PerfOptions};
use crate::target::Target;
use crate::{Attach, Error, Link, MapSpec, Maps, ProgSpec};

/// Bytes of a structure that are copied: as much as the stack of a program holds beside the rest. A `struct sock_common` has
/// about 136 and a `struct sk_buff` about 240.
const DUMP: i32 = 480;
/// How often it is done with other values.
const ROUNDS: u8 = 4;

/// Members whose places were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout(Vec<Field>);

impl Layout {
    fn add(&mut self, path: &str, ty: &str, offset: usize, size: u32) {
        self.0.push(Field {
            path: path.to_owned(),
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
            size,
            bits: None,
            ty: TypeId(0),
            type_name: ty.to_owned(),
        });
    }

    /// A member by its path; of alternatives the first that was found.
    pub(crate) fn field(&self, path: &str) -> Option<Field> {
        path.split('|').find_map(|path| self.0.iter().find(|field| field.path == path.trim())).cloned()
    }
}

/// What a member is found with: the other members of its structure, or nothing else.
pub(crate) fn part(path: &str) -> &str {
    match path {
        skb::PROTOCOL => path,
        path => path.split('.').next().unwrap_or_default(),
    }
}

/// Finds what can be found so, by its [`part`].
pub(crate) fn calibrate(part: &str, target: &Target) -> Result<Layout, String> {
    match part {
        "sock" => sock::calibrate(target),
        "sk_buff" => skb::calibrate(target),
        skb::PROTOCOL => skb::protocol(target),
        structure => Err(format!("struct {structure} cannot be found by trying")),
    }
}

/// Copies the structure that the first argument of a function points to, each time the function is called, or one that a tracepoint
/// knows of.
struct Dumper {
    _link: Link,
    rings: PerfBuffer,
    _maps: Maps,
}

impl Dumper {
    /// At the entry of a function; `read` copies what is wanted to r10 - [`DUMP`] from what r7 points to.
    fn new(target: &Target, symbol: &str, read: Asm) -> Result<Self, Error> {
        let attach = Attach::Kprobe { symbol: symbol.to_owned(), offset: 0 };
        Self::at(target, attach, bpf! { r7 = *(u64 *)(r6 + ctx.arg1); }, read)
    }

    /// At some place, where `pointer` has r7 point to what `read` copies.
    fn at(target: &Target, attach: Attach, pointer: Asm, read: Asm) -> Result<Self, Error> {
        let mut maps = Maps::new();
        maps.create(&MapSpec::perf_event_array("events"), target)?;
        let rings = match maps.get("events") {
            Some(events) => PerfBuffer::open(events, PerfOptions::default())?,
            None => return Err(Error::io("cannot make a ring", std::io::ErrorKind::NotFound.into())),
        };
        let code = bpf! {
            r6 = r1;
            {pointer};
            {read};
            r1 = r6;
            r2 = map[events];
            w3 = -1;                                    // BPF_F_CURRENT_CPU
            r4 = r10;
            r4 += {-DUMP};
            r5 = {DUMP};
            call bpf_perf_event_output;
            r0 = 0;
            exit;
        };
        let link = ProgSpec::new("calibrate", attach, code)?.load(target, &maps)?.attach(target)?;
        Ok(Self { _link: link, rings, _maps: maps })
    }

    /// What was copied since the last time: of this process and of others.
    fn take(&mut self) -> Result<Vec<Vec<u8>>, Error> {
        let mut dumps = Vec::new();
        self.rings.finish(&mut |event| {
            if let Event::Sample(sample) = event {
                dumps.push(sample.data.to_vec());
            }
        })?;
        Ok(dumps)
    }
}

/// Copies `size` bytes from the kernel address in r3 to the stack at r10 + `to`.
fn read_kernel(target: &Target, to: i32, size: i32) -> Asm {
    let read = ReadHelpers::of(target).kernel;
    bpf! {
        r2 = {size};
        r1 = r10;
        r1 += {to};
        call {read};
    }
}

/// What one round copied, and the bytes that are looked for in it.
struct Round<'a> {
    dump: &'a [u8],
    wanted: Vec<u8>,
}

/// The one place, at a multiple of `align`, where each round has what it looks for.
fn place(what: &str, align: usize, rounds: &[Round<'_>]) -> Result<usize, String> {
    let holds = |at: usize| rounds.iter().all(|round| round.dump[at..].starts_with(&round.wanted));
    let length = rounds.iter().map(|round| round.dump.len()).min().unwrap_or_default();
    let mut places = (0..length).step_by(align).filter(|&at| holds(at));
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        (None, _) => Err(format!("{what} was not found")),
        (Some(first), Some(second)) => Err(format!("{what} may be at {first} and at {second}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_only_one_or_it_is_refused() {
        let round = |dump, wanted: &[u8]| Round { dump, wanted: wanted.to_vec() };
        let (first, second) = ([0, 0, 7, 8, 0, 0, 7, 8], [0, 0, 5, 6, 0, 0, 9, 9]);
        let once = [round(&first, &[7, 8]), round(&second, &[5, 6])];
        assert_eq!(place("x", 2, &once), Ok(2));
        assert_eq!(place("x", 2, &once[..1]), Err("x may be at 2 and at 6".to_owned()));
        assert_eq!(place("x", 2, &[round(&first, &[1])]), Err("x was not found".to_owned()));
        assert_eq!(place("x", 4, &[round(&first, &[7, 8])]), Err("x was not found".to_owned()));
        assert_eq!(place("x", 1, &[round(&first, &[8, 9])]), Err("x was not found".to_owned()));
        assert_eq!(place("x", 2, &[]), Err("x was not found".to_owned()));
    }

    #[test]
    fn a_member_is_found_by_any_of_its_paths() {
        let mut layout = Layout::default();
        layout.add("sock.a.b", "__be16", 12, 2);
        assert_eq!(layout.field("sock.x|sock.a.b").map(|field| field.offset), Some(12));
        assert_eq!(layout.field("sock.a"), None);
    }
}
