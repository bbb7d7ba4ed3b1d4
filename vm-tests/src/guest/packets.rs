//! Packets on the loopback device that a case sends and a tool sees.

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

use super::case::{Doing as _, Failure};

const ICMP_ECHO: u8 = 8;
const ICMPV6_ECHO_REQUEST: u8 = 128;

const ICMP_ECHOREPLY: u8 = 0;
const ICMPV6_ECHO_REPLY: u8 = 129;

/// How long an answer may take on a busy host.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends an echo request of 8 bytes of data, and waits for the kernel's answer: it mostly comes before the call returns, as loopback is
/// that short, but where ksoftirqd already has something to do it is left to that, which may take longer than a tool is given.
///
/// # Errors
/// Fails the case where no raw socket can be had, or no answer comes.
pub fn ping(to: IpAddr, id: u16, seq: u16) -> Result<(), Failure> {
    let (family, protocol, kind, answer) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, ICMP_ECHO, ICMP_ECHOREPLY),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY),
    };
    let mut packet = [&[kind, 0, 0, 0][..], &id.to_be_bytes(), &seq.to_be_bytes(), b"bpfkit!\n"].concat();
    if to.is_ipv4() {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let socket = socket(family, SocketType::RAW, Some(protocol))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    sendto(&socket, &packet, SendFlags::empty(), &SocketAddr::new(to, 0))?;
    let mut socket = File::from(socket);
    let mut buffer = [0; 128];
    loop {
        // Everybody's requests and answers come here, those of IPv4 with their header of 20 bytes.
        let length = socket.read(&mut buffer).doing(|| format!("wait for the answer to ping {seq} of {to}"))?;
        let head = if to.is_ipv4() { 20 } else { 0 };
        let message = buffer.get(head..length).unwrap_or_default();
        if message.first() == Some(&answer) && message.get(4..8) == packet.get(4..8) {
            return Ok(());
        }
    }
}

/// The Internet checksum of RFC 1071; for IPv6 the kernel makes it.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| low.into()));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

/// Sends a datagram of so many bytes to a socket of this process.
///
/// # Errors
/// Fails the case where no socket can be had.
pub fn datagram(to: IpAddr, length: usize) -> Result<(), Failure> {
    let receiver = UdpSocket::bind(SocketAddr::new(to, 0))?;
    let sender = UdpSocket::bind(SocketAddr::new(to, 0))?;
    sender.send_to(&vec![b'x'; length], receiver.local_addr()?)?;
    receiver.recv(&mut [0; 16])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_with_its_checksum_sums_up_to_nothing() {
        let mut packet = [8, 0, 0, 0, 0x12, 0x34, 0, 1, b'x'];
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&packet), 0);
    }
}
