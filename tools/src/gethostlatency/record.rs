//! The record of a look-up, which the programs keep and hand over.

use std::borrow::Cow;

use super::function::Function;
use crate::event::Bytes;
use crate::netdb::{self, Address};

// The record of a look-up under way, which the return completes to the event: where its parts are, in bytes.
pub const PID_TGID: i32 = 0;
pub const START: i32 = 8;
pub const COMM: i32 = 16;
pub const FUNCTION: i32 = 32;
/// What reading the host gave: its length with the NUL, or an error.
pub const LENGTH: i32 = 36;
pub const HOST_POINTER: i32 = 40;
/// The stack pointer that the return will find.
pub const SP: i32 = 48;
/// Where the result's address will be.
pub const RESULT: i32 = 56;
/// Bytes of the address that was asked for.
pub const ASKED_LENGTH: i32 = 64;
/// When a look-up ends, the answer takes the place of what only the end needed to know: its family, which is 0 where there is none,
/// whether there is one, what was returned; and the first socket address, or of a `struct hostent` the first address.
pub const ANSWER: i32 = SP;
pub const IS_FOUND: i32 = ANSWER + 2;
pub const STATUS: i32 = ANSWER + 4;
/// Where an address from a `struct hostent` is, counted from the start of an answer.
pub const HOSTENT_ADDRESS: i32 = 8;
pub const HOST: i32 = 80;
/// Bytes of a name with its NUL: 253 are the most that DNS has, 255 (NI_MAXHOST of old, NAME_MAX) the most that files have.
pub const HOST_SIZE: i32 = 256;
pub const RECORD: i32 = HOST + HOST_SIZE;
/// With `-a`, the answers follow the record.
pub const ANSWERS: i32 = 16;
pub const ANSWER_SIZE: i32 = 32;
/// The lengths that `struct sockaddr_in` and `struct sockaddr_in6` have are 16 and 28. Any other is cut by this, so that what is read
/// stays in its answer.
pub const SOCKADDR_LENGTHS: i32 = 28;
/// Those of addresses, 4 and 16, likewise.
pub const ADDRESS_LENGTHS: i32 = 20;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// No name: getaddrinfo was asked for an address to bind to.
    Null,
    /// A name that could not be read.
    Unreadable,
    Name(Vec<u8>),
    Address(Address),
}

/// A look-up, as the programs hand it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub pid: u32,
    pub tid: u32,
    pub comm: Vec<u8>,
    pub function: Function,
    /// When it began, of the samples' clock.
    pub start: u64,
    pub host: Host,
    /// The addresses, or why there are none.
    pub answer: Result<Vec<Address>, Cow<'static, str>>,
}

impl Event {
    /// Reads the bytes of a record, whose answers follow it with `-a`.
    pub fn parse(record: &[u8], all: bool) -> Option<Self> {
        let mut bytes = Bytes(record);
        let (pid, tid) = bytes.halves()?;
        let start = bytes.u64()?;
        let comm = bytes.comm()?;
        let function = *Function::ALL.get(usize::try_from(bytes.u32()?).ok()?)?;
        let length = bytes.u32()?;
        let pointer = bytes.u64()?;
        let first = bytes.take(32)?;
        let host = bytes.take(256)?;
        let answers: Vec<&[u8]> = if all { bytes.0.chunks_exact(32).take(16).collect() } else { vec![first] };
        let (is_found, status) = (first.get(2)? != &0, i32::from_ne_bytes(*first.get(4..)?.first_chunk()?));
        let answer = if function == Function::Getaddrinfo {
            match (netdb::family(first)?, status) {
                (0, code) if code != 0 => Err(netdb::eai(code).into()),
                _ => Ok(answers.iter().map_while(|answer| Address::of_sockaddr(answer)).collect()),
            }
        } else if is_found {
            let address = |answer: &&[u8]| Address::new(netdb::family(answer)?, answer.get(8..)?, 0);
            Ok(answers.iter().map_while(address).collect())
        } else {
            // gethostbyname leaves the reason in h_errno, which is out of reach: a variable of the thread.
            Err(if status == 0 { "failed".into() } else { netdb::errno(status).into() })
        };
        let host = match (length, function.is_reverse()) {
            (_, true) if answer.is_err() => {
                let asked = u64::from_ne_bytes(*first.get(16..)?.first_chunk()?);
                let family = if asked == 16 { libc::AF_INET6 } else { libc::AF_INET };
                Address::new(family, host, 0).map_or(Host::Unreadable, Host::Address)
            }
            // Of an empty name, some kernels (6.12) say that it has no byte, others (6.18) that it has its NUL.
            (0..=256, _) => Host::Name(host.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()),
            _ if pointer == 0 => Host::Null,
            _ => Host::Unreadable,
        };
        let mut event = Self { pid, tid, comm, function, start, host, answer };
        if let Ok(addresses) = &mut event.answer {
            // getaddrinfo lists an address for each type of socket.
            first_of_each(addresses);
        }
        Some(event)
    }
}

/// Keeps what is there for the first time, in its order.
pub(super) fn first_of_each<T: Copy + PartialEq>(items: &mut Vec<T>) {
    let mut seen = Vec::new();
    items.retain(|item| {
        let is_new = !seen.contains(item);
        seen.push(*item);
        is_new
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as a program would have written it.
    fn record(function: Function, length: i32, pointer: u64, answer: &[u8], host: &[u8], answers: &[&[u8]]) -> Vec<u8> {
        let mut bytes = ((77_u64 << 32) | 78).to_ne_bytes().to_vec();
        bytes.extend(5_u64.to_ne_bytes());
        bytes.extend(b"resolver\0\0\0\0\0\0\0\0");
        bytes.extend(function.number().to_ne_bytes());
        bytes.extend(length.to_ne_bytes());
        bytes.extend(pointer.to_ne_bytes());
        for (part, size) in [(answer, 32), (host, 256)] {
            bytes.extend(part);
            bytes.resize(bytes.len() + size - part.len(), 0);
        }
        for answer in answers {
            bytes.extend(*answer);
            bytes.resize(bytes.len() + 32 - answer.len(), 0);
        }
        bytes
    }

    fn sockaddr(last: u8) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&2_u16.to_ne_bytes());
        bytes[4..8].copy_from_slice(&[10, 0, 0, last]);
        bytes
    }

    fn shown(event: &Event) -> String {
        let answer = match &event.answer {
            Ok(addresses) => addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => format!("error {error}"),
        };
        format!("{:?} {answer}", event.host)
    }

    #[test]
    fn answers_of_getaddrinfo_are_told_apart() {
        let name = Host::Name(b"one".to_vec());
        let parse = |bytes: &[u8], all| shown(&Event::parse(bytes, all).unwrap());
        let one = record(Function::Getaddrinfo, 4, 1, &sockaddr(1), b"one\0rest of another", &[]);
        assert_eq!(parse(&one, false), format!("{name:?} 10.0.0.1"));
        let failed = [0_u32.to_ne_bytes(), (-2_i32).to_ne_bytes()].concat();
        let failed = record(Function::Getaddrinfo, 4, 1, &failed, b"one\0", &[]);
        assert_eq!(parse(&failed, false), format!("{name:?} error EAI_NONAME"));
        // A list names an address once for each type of socket.
        let list = [&sockaddr(1)[..], &sockaddr(1), &sockaddr(2), &[0; 16], &sockaddr(3)];
        let all = record(Function::Getaddrinfo, 4, 1, &[], b"one\0", &list);
        assert_eq!(parse(&all, true), format!("{name:?} 10.0.0.1 10.0.0.2"));
        let event = Event::parse(&one, false).unwrap();
        assert_eq!((event.pid, event.tid, event.comm.as_slice(), event.start), (77, 78, &b"resolver"[..], 5));
    }

    #[test]
    fn a_name_that_is_not_there_is_told_from_one_that_cannot_be_read() {
        let host = |length, pointer| {
            Event::parse(&record(Function::Getaddrinfo, length, pointer, &sockaddr(1), b"", &[]), false).unwrap().host
        };
        assert_eq!(host(-14, 0), Host::Null);
        assert_eq!(host(-14, 8), Host::Unreadable);
        assert_eq!((host(0, 8), host(1, 8)), (Host::Name(Vec::new()), Host::Name(Vec::new())));
    }

    #[test]
    fn a_reverse_look_up_shows_the_name_that_was_found_or_the_address_that_was_asked_for() {
        let mut found = [0_u8; 32];
        found[..2].copy_from_slice(&2_u16.to_ne_bytes());
        found[2..4].copy_from_slice(&1_u16.to_ne_bytes());
        found[8..12].copy_from_slice(&[127, 0, 0, 1]);
        let found = record(Function::Gethostbyaddr, 10, 1, &found, b"localhost\0", &[]);
        assert_eq!(
            shown(&Event::parse(&found, false).unwrap()),
            format!("{:?} 127.0.0.1", Host::Name(b"localhost".to_vec()))
        );
        for (length, expected) in [(4_u64, "1.2.3.4"), (16, "102:304::")] {
            let asked = [[0; 16].as_slice(), &length.to_ne_bytes()].concat();
            let failed = record(Function::GethostbyaddrR, 5, 1, &asked, &[1, 2, 3, 4], &[]);
            let event = Event::parse(&failed, false).unwrap();
            let Host::Address(address) = event.host else { panic!("{event:?}") };
            assert_eq!((address.to_string().as_str(), event.answer), (expected, Err("failed".into())));
        }
    }

    #[test]
    fn a_record_that_is_cut_is_none() {
        let bytes = record(Function::Getaddrinfo, 4, 1, &sockaddr(1), b"one\0", &[&sockaddr(1)[..]; 16]);
        for end in 0..bytes.len() {
            let _ = Event::parse(&bytes[..end], true);
            assert_eq!(Event::parse(&bytes[..end], false).is_some(), end >= 336, "{end}");
        }
    }
}
