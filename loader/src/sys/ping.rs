//! Pings over a raw socket.
#![allow(unsafe_code)]

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{call, retry};

/// ICMP_ECHO of include/uapi/linux/icmp.h.
const ECHO: u8 = 8;

/// Sends an echo request without data. Over loopback the kernel has answered it when the call returns.
pub(crate) fn ping(to: Ipv4Addr, id: u16, sequence: u16) -> io::Result<()> {
    let [[id1, id2], [seq1, seq2]] = [id.to_be_bytes(), sequence.to_be_bytes()];
    let sum = u32::from(ECHO) << 8;
    let sum = sum + u32::from(id) + u32::from(sequence);
    let sum = (sum & 0xffff) + (sum >> 16);
    let [.., sum1, sum2] = (!((sum & 0xffff) + (sum >> 16))).to_be_bytes();
    let packet = [ECHO, 0, sum1, sum2, id1, id2, seq1, seq2];
    // SAFETY: the call takes and returns numbers.
    let socket = || unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_ICMP) };
    let socket = call("socket", || match socket() {
        fd if fd >= 0 => Ok(fd),
        _ => Err(io::Error::last_os_error()),
    })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let address = libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default(),
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.octets()) },
        sin_zero: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or_default();
    // SAFETY: packet and address are borrowed for the call, with their lengths beside them.
    let send = || unsafe {
        libc::sendto(socket.as_raw_fd(), packet.as_ptr().cast(), packet.len(), 0, (&raw const address).cast(), length)
    };
    let once = || if send() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    retry(|| call("sendto", once))
}
