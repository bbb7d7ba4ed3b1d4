//! `struct sock`, by connections of one's own over loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bpfkit_asm::bpf;

use super::{DUMP, Dumper, Layout, ROUNDS, Round, place, read_kernel};
use crate::clock;
use crate::error::chain;
use crate::target::Target;

/// Both ends of a connection that was made, as the side that asked for it knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    local: SocketAddr,
    remote: SocketAddr,
}

/// A connection and the socket's bytes.
#[derive(Clone, Debug)]
struct Seen {
    ends: Ends,
    dump: Vec<u8>,
}

/// `tcp_connect` is called when addresses and ports are chosen and before the SYN is sent.
const FUNCTION: &str = "tcp_connect";

/// Makes connections and looks for their addresses and ports.
pub(super) fn calibrate(target: &Target) -> Result<Layout, String> {
    let read = bpf! {
        r3 = r7;                                        // struct sock *sk
        {read_kernel(target, -DUMP, DUMP)};
    };
    let mut dumper = Dumper::new(target, FUNCTION, read).map_err(|error| chain(&error))?;
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for round in 0..ROUNDS {
        // Addresses that hardly anybody uses, other ones each time. The kernel answers for all of 127.0.0.0/8.
        let [.., a, b] = clock::now().to_be_bytes();
        let to = Ipv4Addr::new(127, 64 + round, a.max(1), b.clamp(1, 254));
        v4.push(connect(&mut dumper, SocketAddr::new(to.into(), 0), addresses_v4)?);
        // IPv6 may be off, or not there.
        v6.extend(connect(&mut dumper, "[::1]:0".parse().map_err(|_| "no address")?, addresses_v6));
    }
    layout(&v4, &v6)
}

/// Connects to a listener of one's own, and finds the socket among those that were copied by the addresses in it.
fn connect(dumper: &mut Dumper, to: SocketAddr, wanted: fn(&Ends) -> Vec<Vec<u8>>) -> Result<Seen, String> {
    let cannot = |error: std::io::Error| format!("cannot connect to {to}: {error}");
    let listener = TcpListener::bind(to).map_err(cannot)?;
    let remote = listener.local_addr().map_err(cannot)?;
    dumper.take().map_err(|error| chain(&error))?;
    let stream = TcpStream::connect_timeout(&remote, Duration::from_secs(1)).map_err(cannot)?;
    let ends = Ends { local: stream.local_addr().map_err(cannot)?, remote };
    let dumps = dumper.take().map_err(|error| chain(&error))?;
    let contains = |dump: &[u8], part: &[u8]| dump.windows(part.len()).any(|window| window == part);
    let ours = |dump: &&Vec<u8>| wanted(&ends).iter().all(|part| contains(dump, part));
    let mut ours = dumps.iter().filter(ours);
    match (ours.next(), ours.next()) {
        (Some(dump), None) => Ok(Seen { ends, dump: dump.clone() }),
        (None, _) => Err(format!("the socket of a connection to {to} was not seen in {FUNCTION}")),
        _ => Err(format!("several sockets that were seen may be that of a connection to {to}")),
    }
}

/// `skc_portpair`: the remote port as on the wire, the local one as a number.
fn ports(ends: &Ends) -> Vec<u8> {
    [ends.remote.port().to_be_bytes(), ends.local.port().to_ne_bytes()].concat()
}

fn address(end: SocketAddr) -> Vec<u8> {
    match end {
        SocketAddr::V4(end) => end.ip().octets().to_vec(),
        SocketAddr::V6(end) => end.ip().octets().to_vec(),
    }
}

/// An IPv4 address as the IPv6 members of an IPv4 socket have it.
fn mapped(end: SocketAddr) -> Vec<u8> {
    match end {
        SocketAddr::V4(end) => end.ip().to_ipv6_mapped().octets().to_vec(),
        SocketAddr::V6(end) => end.ip().octets().to_vec(),
    }
}

/// `skc_addrpair`: the remote address, then the local one.
fn pair(ends: &Ends) -> Vec<u8> {
    [address(ends.remote), address(ends.local)].concat()
}

fn addresses_v4(ends: &Ends) -> Vec<Vec<u8>> {
    vec![pair(ends), ports(ends)]
}

fn addresses_v6(ends: &Ends) -> Vec<Vec<u8>> {
    vec![address(ends.remote), ports(ends)]
}

/// Finds the members in what was seen. IPv6 connections are not needed for the addresses: the kernel keeps those of an IPv4
/// socket in the IPv6 members too, as mapped ones (sk_daddr_set and sk_rcv_saddr_set of include/net/inet_sock.h), where they
/// can be told apart, as the one address of loopback cannot.
fn layout(v4: &[Seen], v6: &[Seen]) -> Result<Layout, String> {
    let find = |what: &str, align: usize, seen: &[&Seen], wanted: &dyn Fn(&Ends) -> Vec<u8>| {
        let rounds: Vec<_> = seen.iter().map(|seen| Round { dump: &seen.dump, wanted: wanted(&seen.ends) }).collect();
        place(what, align, &rounds)
    };
    let four: Vec<&Seen> = v4.iter().collect();
    let both: Vec<&Seen> = v4.iter().chain(v6).collect();
    let mut layout = Layout::default();

    let addresses = find("skc_addrpair", 4, &four, &pair)?;
    layout.add("sock.__sk_common.skc_addrpair", "__addrpair", addresses, 8);
    layout.add("sock.__sk_common.skc_daddr", "__be32", addresses, 4);
    layout.add("sock.__sk_common.skc_rcv_saddr", "__be32", addresses + 4, 4);

    let ports = find("skc_portpair", 4, &both, &ports)?;
    layout.add("sock.__sk_common.skc_portpair", "__portpair", ports, 4);
    layout.add("sock.__sk_common.skc_dport", "__be16", ports, 2);
    layout.add("sock.__sk_common.skc_num", "__u16", ports + 2, 2);

    // A kernel without IPv6 has neither, and one whose IPv6 is off has no family to compare: IPv4 works all the same.
    let both_are = |what: &str, wanted: &dyn Fn(&Ends) -> Vec<u8>| find(what, 4, &both, wanted);
    if let Ok(remote) = both_are("skc_v6_daddr", &|ends| mapped(ends.remote))
        && let Ok(local) = find("skc_v6_rcv_saddr", 4, &four, &|ends| mapped(ends.local))
        && v6.iter().all(|seen| seen.dump[local..].starts_with(&mapped(seen.ends.local)))
    {
        layout.add("sock.__sk_common.skc_v6_daddr", "struct in6_addr", remote, 16);
        layout.add("sock.__sk_common.skc_v6_rcv_saddr", "struct in6_addr", local, 16);
    }
    let family = |ends: &Ends| {
        let family = if ends.remote.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        u16::try_from(family).unwrap_or_default().to_ne_bytes().to_vec()
    };
    if let Ok(family) = find("skc_family", 2, &both, &family) {
        layout.add("sock.__sk_common.skc_family", "short unsigned int", family, 2);
    }
    Ok(layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket as Linux lays it out, more or less, with the copies of addresses and ports that confuse.
    fn socket(local: &str, remote: &str) -> Seen {
        let ends = Ends { local: local.parse().unwrap(), remote: remote.parse().unwrap() };
        let mut dump = vec![0; 480];
        let mut put = |at: usize, bytes: &[u8]| dump[at..at + bytes.len()].copy_from_slice(bytes);
        if ends.remote.is_ipv4() {
            put(0, &pair(&ends));
            // struct flowi4: the local address before the remote one, both ports as on the wire.
            put(400, &[address(ends.local), address(ends.remote)].concat());
        }
        put(12, &ports(&ends));
        put(408, &[ends.remote.port().to_be_bytes(), ends.local.port().to_be_bytes()].concat());
        put(16, &if ends.remote.is_ipv4() { 2_u16 } else { 10 }.to_ne_bytes());
        put(56, &mapped(ends.remote));
        put(72, &mapped(ends.local));
        put(120, &2_u16.to_ne_bytes());
        Seen { ends, dump }
    }

    fn seen() -> (Vec<Seen>, Vec<Seen>) {
        let v4 = [("127.0.0.1:1025", "127.64.1.2:2050"), ("127.0.0.1:40000", "127.65.3.4:3000")];
        let v6 = [("[::1]:1027", "[::1]:2052")];
        (v4.map(|(local, remote)| socket(local, remote)).to_vec(), v6.map(|(l, r)| socket(l, r)).to_vec())
    }

    #[test]
    fn members_are_found_among_copies_of_their_values() {
        let (v4, v6) = seen();
        let layout = layout(&v4, &v6).unwrap();
        let at = |member: &str| layout.field(&format!("sock.__sk_common.{member}")).map(|field| field.offset);
        let members = ["skc_daddr", "skc_rcv_saddr", "skc_dport", "skc_num", "skc_family", "skc_v6_daddr"];
        assert_eq!(members.map(at), [0, 4, 12, 14, 16, 56].map(Some));
        assert_eq!(at("skc_v6_rcv_saddr"), Some(72));
        assert_eq!(at("skc_state"), None);
    }

    #[test]
    fn what_is_not_unique_is_refused() {
        let (mut v4, v6) = seen();
        for seen in &mut v4 {
            let pair = pair(&seen.ends);
            seen.dump[200..208].copy_from_slice(&pair);
        }
        assert_eq!(layout(&v4, &v6), Err("skc_addrpair may be at 0 and at 200".to_owned()));
    }

    #[test]
    fn without_ipv6_the_family_cannot_be_told() {
        let (v4, _) = seen();
        let layout = layout(&v4, &[]).unwrap();
        assert!(layout.field("sock.__sk_common.skc_family").is_none());
        assert!(layout.field("sock.__sk_common.skc_v6_daddr").is_some());
    }
}
