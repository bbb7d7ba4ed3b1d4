//! One connection, as the programs hand it over.

use serde::Serialize;

use super::Probe;
use crate::event::Bytes;
use crate::flow::{Flow, Ip};

/// Which program saw a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The subprogram itself.
    Kprobe,
    /// The program at its entry.
    Fentry,
    /// The program at its return.
    Fexit,
}

/// A connection, as the programs hand it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Process, of a connection that is asked for.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Name of the thread, up to 16 bytes.
    pub comm: Vec<u8>,
    /// Which program saw it.
    pub via: Via,
    /// Which function of the kernel the socket was given to.
    pub probe: Probe,
    /// What the subprogram returned, as fexit sees it.
    pub ret: Option<i32>,
    /// Addresses and ports.
    pub flow: Flow,
}

// The event on the stack of a program, from here up, in the order of its bytes. What follows the ports is 2 addresses of 4 or
// of 16 bytes. Neither length leaves the record in need of padding: 4 bytes of size and the event are a multiple of 8.
pub(super) const EVENT: i32 = -80;
pub(super) const PID_TGID: i32 = EVENT;
pub(super) const COMM: i32 = EVENT + 8;
/// Which program it is: a byte of [`Via`] and a byte of [`Probe`], in 4 bytes.
pub(super) const WHICH: i32 = EVENT + 24;
/// 2 bytes, and 2 of nothing.
pub(super) const FAMILY: i32 = EVENT + 28;
pub(super) const RET: i32 = EVENT + 32;
pub(super) const PORTS: i32 = EVENT + 40;
pub(super) const ADDRESSES: i32 = EVENT + 44;
pub(super) const SIZE_V4: u32 = 52;
pub(super) const SIZE_V6: u32 = 76;

/// What a program writes at [`WHICH`].
pub(super) const fn which(probe: Probe, via: Via) -> i32 {
    let via = match via {
        Via::Kprobe => 0,
        Via::Fentry => 1,
        Via::Fexit => 2,
    };
    match probe {
        Probe::Connect => via,
        Probe::Accept => 1 << 8 | via,
    }
}

impl Event {
    /// Reads the bytes that a program wrote at [`EVENT`].
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(bytes);
        let (pid, tid) = bytes.halves()?;
        let comm = bytes.comm()?;
        let number = bytes.u32()?;
        let (probe, via) = [Probe::Connect, Probe::Accept]
            .into_iter()
            .flat_map(|probe| [Via::Kprobe, Via::Fentry, Via::Fexit].map(|via| (probe, via)))
            .find(|&(probe, via)| which(probe, via).unsigned_abs() == number)?;
        let [family, _] = [bytes.u16()?, bytes.u16()?];
        let ip = if i32::from(family) == Ip::V4.family() { Ip::V4 } else { Ip::V6 };
        let ret = bytes.u64()?.cast_signed();
        Some(Self {
            pid,
            tid,
            comm,
            via,
            probe,
            ret: if via == Via::Fexit { Some(i32::try_from(ret).ok()?) } else { None },
            flow: Flow::parse(ip, bytes)?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a program writes.
    pub(in crate::bpf2bpf) fn record(which: u32, family: u16, ret: i64) -> Vec<u8> {
        let mut record =
            [&(7_u64 << 32 | 8).to_ne_bytes()[..], b"curl\0junk\0\0\0\0\0\0\0", &which.to_ne_bytes()].concat();
        record.extend([family.to_ne_bytes(), [0; 2]].concat());
        record.extend(ret.to_ne_bytes());
        record.extend([0, 80]);
        record.extend(36532_u16.to_ne_bytes());
        let addresses: &[u8] = if family == 2 { &[93, 184, 216, 34, 10, 0, 2, 15] } else { &[0; 32] };
        record.extend(addresses);
        record
    }

    #[test]
    fn records_have_the_sizes_that_programs_send_and_no_others() {
        assert_eq!(record(0, 2, 0).len(), usize::try_from(SIZE_V4).unwrap());
        let whole = record(0, 10, 0);
        assert_eq!(whole.len(), usize::try_from(SIZE_V6).unwrap());
        for end in 0..whole.len() {
            assert_eq!(Event::parse(&whole[..end]), None, "{end}");
        }
        assert_eq!(Event::parse(&record(3, 2, 0)), None, "a program that is none of ours");
    }

    #[test]
    fn a_record_tells_which_function_the_socket_was_given_to() {
        let event = |which| Event::parse(&record(which, 2, 0)).map(|event| (event.probe, event.via));
        assert_eq!(event(0), Some((Probe::Connect, Via::Kprobe)));
        assert_eq!(event(0x102), Some((Probe::Accept, Via::Fexit)));
        assert_eq!(event(0x200), None);
    }
}
