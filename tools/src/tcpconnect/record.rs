//! One connect, as the programs hand it over.

use crate::event::Bytes;
use crate::flow::{Flow, Ip};

/// One connect, as the programs hand it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Name of the thread, up to 16 bytes.
    pub comm: Vec<u8>,
    /// Effective user.
    pub uid: u32,
    /// Addresses and ports.
    pub flow: Flow,
}

// The event on the stack of a program, from here up, in the order of its bytes. What follows the ports is 2 addresses of 4 or
// of 16 bytes, remote before local, as struct sock_common has them. From the ports on it is the key of the tables of counts.
// Neither length leaves the record in need of padding: 4 bytes of size and the event are a multiple of 8.
pub(super) const EVENT: i32 = -72;
pub(super) const PID_TGID: i32 = EVENT;
pub(super) const COMM: i32 = EVENT + 8;
pub(super) const UID: i32 = EVENT + 24;
pub(super) const FAMILY: i32 = EVENT + 28;
pub(super) const PORTS: i32 = EVENT + 32;
pub(super) const LPORT: i32 = PORTS + 2;
pub(super) const DADDR: i32 = PORTS + 4;
const SIZE_V4: u32 = 44;
const SIZE_V6: u32 = 68;
/// 8 bytes below the event.
pub(super) const SCRATCH: i32 = EVENT - 8;
/// What the tracepoint's program remembers of a connect until its local port is known: the event up to its ports.
pub(super) const WHO: u32 = 32;

impl Ip {
    pub(super) const fn event_size(self) -> u32 {
        match self {
            Self::V4 => SIZE_V4,
            Self::V6 => SIZE_V6,
        }
    }
}

impl Event {
    /// Reads the bytes that a program wrote at [`EVENT`].
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(bytes);
        let (pid, tid) = bytes.halves()?;
        let comm = bytes.comm()?;
        let uid = bytes.u32()?;
        let ip = if bytes.u32()? == libc::AF_INET.unsigned_abs() { Ip::V4 } else { Ip::V6 };
        Some(Self { pid, tid, comm, uid, flow: Flow::parse(ip, bytes)? })
    }
}
