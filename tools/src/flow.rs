//! Who a TCP connection is between: read from a `struct sock` by programs, and shown.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bpfkit_asm::{Asm, bpf};
use bpfkit_loader::Target;
use serde::Serialize;

use crate::event::Bytes;
use crate::read;

/// An IP version as a program sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ip {
    V4,
    V6,
}

impl Ip {
    pub(crate) const fn family(self) -> i32 {
        match self {
            Self::V4 => libc::AF_INET,
            Self::V6 => libc::AF_INET6,
        }
    }
}

/// Copies the ports of the struct sock in r7 to r10 + `to`: 2 bytes of the remote one, big-endian, and 2 of the local one, as
/// this machine has numbers. Like all fragments here it leaves r6 to r9 alone.
pub(crate) fn ports(target: &Target, to: i32) -> Asm {
    bpf! {
        r3 = r7;
        r3 += sock.__sk_common.skc_portpair;            // skc_dport and skc_num
        {read::kernel(target, to, 4)};
    }
}

/// Copies the IPv4 addresses of the struct sock in r7 to r10 + `to`: the remote one, and the local one.
pub(crate) fn addresses_v4(target: &Target, to: i32) -> Asm {
    bpf! {
        r3 = r7;
        r3 += sock.__sk_common.skc_addrpair;            // skc_daddr and skc_rcv_saddr
        {read::kernel(target, to, 8)};
    }
}

/// Copies the remote IPv6 address of the struct sock in r7 to r10 + `to`.
pub(crate) fn remote_v6(target: &Target, to: i32) -> Asm {
    bpf! {
        r3 = r7;
        r3 += sock.__sk_common.skc_v6_daddr;
        {read::kernel(target, to, 16)};
    }
}

/// Copies the local IPv6 address of the struct sock in r7 to r10 + `to`.
pub(crate) fn local_v6(target: &Target, to: i32) -> Asm {
    bpf! {
        r3 = r7;
        r3 += sock.__sk_common.skc_v6_rcv_saddr;
        {read::kernel(target, to, 16)};
    }
}

/// Addresses and ports of a connection; the local port is 0 where it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Local address.
    pub saddr: IpAddr,
    /// Remote address.
    pub daddr: IpAddr,
    /// Local port.
    pub lport: u16,
    /// Remote port.
    pub dport: u16,
}

impl Flow {
    /// Reads what [`ports`] has copied, and after it the addresses, remote before local. An IPv4-mapped address is shown as what
    /// it is, IPv4.
    pub(crate) fn parse(ip: Ip, mut bytes: Bytes<'_>) -> Option<Self> {
        let (dport, lport) = (u16::from_be_bytes(bytes.array()?), bytes.u16()?);
        let (daddr, saddr): (IpAddr, IpAddr) = match ip {
            Ip::V4 => (Ipv4Addr::from(bytes.array::<4>()?).into(), Ipv4Addr::from(bytes.array::<4>()?).into()),
            Ip::V6 => {
                let mut address = || bytes.array::<16>().map(|address| Ipv6Addr::from(address).to_canonical());
                (address()?, address()?)
            }
        };
        Some(Self { saddr, daddr, lport, dport })
    }

    /// 4 or 6.
    pub(crate) fn version(&self) -> u8 {
        if self.daddr.is_ipv4() { 4 } else { 6 }
    }
}

/// From the local end to the remote one, `10.0.2.15:36532 -> 93.184.216.34:80` or `[::1]:36532 -> [::1]:80`.
impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { saddr, daddr, lport, dport } = *self;
        write!(f, "{} -> {}", SocketAddr::new(saddr, lport), SocketAddr::new(daddr, dport))
    }
}

/// A flow as JSON.
#[derive(Serialize)]
pub(crate) struct JsonFlow {
    ip: u8,
    saddr: IpAddr,
    /// Null where it is not known.
    lport: Option<u16>,
    daddr: IpAddr,
    dport: u16,
}

impl From<Flow> for JsonFlow {
    fn from(flow: Flow) -> Self {
        let Flow { saddr, daddr, lport, dport } = flow;
        Self { ip: flow.version(), saddr, lport: (lport != 0).then_some(lport), daddr, dport }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_shown_as_they_are_written_in_addresses_of_the_web() {
        let v4 = [&[0, 80][..], &36532_u16.to_ne_bytes(), &[93, 184, 216, 34], &[10, 0, 2, 15]].concat();
        let flow = |ip, bytes: &[u8]| Flow::parse(ip, Bytes(bytes)).map(|flow| flow.to_string());
        assert_eq!(flow(Ip::V4, &v4).as_deref(), Some("10.0.2.15:36532 -> 93.184.216.34:80"));
        assert_eq!(flow(Ip::V4, &v4[..11]), None);
        let address = |address: &str| address.parse::<Ipv6Addr>().unwrap().octets();
        let v6 = [&v4[..4], &address("::1"), &address("fe80::2")].concat();
        assert_eq!(flow(Ip::V6, &v6).as_deref(), Some("[fe80::2]:36532 -> [::1]:80"));
        let mapped = [&v4[..4], &address("::ffff:1.2.3.4"), &address("::ffff:5.6.7.8")].concat();
        assert_eq!(flow(Ip::V6, &mapped).as_deref(), Some("5.6.7.8:36532 -> 1.2.3.4:80"));
    }
}
