//! One packet, as the programs hand it over.

use crate::escape;
use crate::event::Bytes;

/// Bytes of a device's name, with its NUL.
pub(super) const IFNAMSIZ: usize = 16;

/// A packet, as the programs hand it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The device's name, up to 16 bytes.
    pub dev: Vec<u8>,
    /// Bytes from the network header on.
    pub len: u32,
    /// `ETH_P_*` of include/uapi/linux/if_ether.h.
    pub proto: u16,
}

// The event on the stack of a program, from here up, in the order of its bytes.
pub(super) const EVENT: i32 = -24;
pub(super) const NAME: i32 = EVENT;
pub(super) const LEN: i32 = EVENT + 16;
/// 2 bytes, big-endian, and 2 of nothing.
pub(super) const PROTO: i32 = EVENT + 20;
pub(super) const SIZE: u32 = 24;
/// 8 bytes below the event.
pub(super) const SCRATCH: i32 = EVENT - 8;
/// The format of bpf_trace_printk, 32 bytes below those. Linux before 5.9 adds no line feed of its own.
pub(super) const FORMAT: i32 = SCRATCH - 32;
pub(super) const PRINTK: &[u8; 32] = b"skbrecv %s len %u proto %x\n\0\0\0\0\0";
/// Up to the first NUL and with it: Linux before 5.13 takes no second one.
pub(super) const PRINTK_SIZE: i32 = 28;

impl Event {
    /// Reads the bytes that a program wrote at [`EVENT`].
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(data);
        let dev = escape::comm(bytes.take(IFNAMSIZ)?).to_vec();
        Some(Self { dev, len: bytes.u32()?, proto: u16::from_be_bytes(bytes.array()?) })
    }

    /// Reads what a program printed in the form of [`PRINTK`].
    pub(crate) fn parse_text(text: &str) -> Option<Self> {
        let (dev, rest) = text.strip_prefix("skbrecv ")?.rsplit_once(" len ")?;
        let (len, proto) = rest.split_once(" proto ")?;
        Some(Self { dev: dev.into(), len: len.parse().ok()?, proto: u16::from_str_radix(proto.trim_end(), 16).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_is_sent() {
        let sent = [&b"eth0\0garbage\0\0\0\0"[..], &84_u32.to_ne_bytes(), &[0x86, 0xdd, 0, 0]].concat();
        let event = Event { dev: b"eth0".to_vec(), len: 84, proto: 0x86dd };
        assert_eq!(Event::parse(&sent), Some(event.clone()));
        assert_eq!(Event::parse_text("skbrecv eth0 len 84 proto 86dd"), Some(event));
        for end in 0..sent.len() - 2 {
            assert_eq!(Event::parse(&sent[..end]), None);
        }
        for text in ["", "other eth0 len 84 proto 86dd", "skbrecv eth0 len x proto 1", "skbrecv eth0 len 1 proto 12345"]
        {
            assert_eq!(Event::parse_text(text), None, "{text}");
        }
    }
}
