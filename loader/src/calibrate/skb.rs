//! `struct sk_buff`, by pings and datagrams of one's own over loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use bpfkit_asm::{Asm, bpf};

use super::{DUMP, Dumper, Layout, ROUNDS, Round, place, read_kernel};
use crate::Attach;
use crate::clock;
use crate::error::chain;
use crate::sys::ping;
use crate::target::Target;

/// It is called with the ICMP header pulled: `data` is what follows that.
const FUNCTION: &str = "icmp_echo";
const ICMP_HEADER: u16 = 8;
const IP_HEADER: u16 = 20;

/// What a packet's bytes say if `head` is at some place: how far the transport header is from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Guess {
    head: usize,
    transport: u16,
}

/// Bytes of a packet that are looked at. The kernel keeps packets 256 bytes apart, or more where they are larger, so what is beyond
/// may be of another packet, which says the same.
const OWN: usize = 256;

/// Makes pings and looks for the pointers to them.
pub(super) fn calibrate(target: &Target) -> Result<Layout, String> {
    let read = bpf! {
        r3 = r7;                                        // struct sk_buff *skb
        {read_kernel(target, -DUMP, DUMP)};
    };
    let mut dumps = pinged(target, read, |_, _| true)?;
    dumps.iter_mut().for_each(|dump| dump.truncate(OWN));
    let layout = layout(&dumps)?;
    verify(target, &layout)?;
    Ok(layout)
}

/// Pings and collects what was copied, one for each ping.
fn pinged(target: &Target, read: Asm, ours: impl Fn(&[u8], u16) -> bool) -> Result<Vec<Vec<u8>>, String> {
    let mut dumper = Dumper::new(target, FUNCTION, read).map_err(|error| chain(&error))?;
    let mut dumps = Vec::new();
    for round in 0..ROUNDS {
        let [.., a, b] = clock::now().to_be_bytes();
        let to = Ipv4Addr::new(127, 64 + round, a.max(1), b.clamp(1, 254));
        let sequence = u16::from_be_bytes([round, b]);
        dumper.take().map_err(|error| chain(&error))?;
        ping::ping(to, PING_ID, sequence)
            .map_err(|error| format!("cannot ping {to}, which takes CAP_NET_RAW: {error}"))?;
        let seen = dumper.take().map_err(|error| chain(&error))?;
        let mut seen = seen.into_iter().filter(|dump| ours(dump, sequence));
        match (seen.next(), seen.next()) {
            (Some(dump), None) => dumps.push(dump),
            (None, _) => return Err(format!("a ping to {to} was not seen in {FUNCTION}")),
            _ => return Err(format!("other pings came in between those to {to}")),
        }
    }
    Ok(dumps)
}

/// The identifier of our pings.
const PING_ID: u16 = 0xb9f1;

/// Finds the members in the bytes of packets: two pointers that follow each other, `head` and `data`, so near that both point
/// into one packet, and the distances between them that the headers must have, the transport header's before the network
/// header's.
fn layout(dumps: &[Vec<u8>]) -> Result<Layout, String> {
    let first = dumps.first().ok_or("no packet was seen")?;
    let mut found = Vec::new();
    for Guess { head, .. } in guesses(first) {
        let rounds: Option<Vec<_>> = dumps
            .iter()
            .map(|dump| {
                let guess = guesses(dump).find(|guess| guess.head == head)?;
                let wanted = [guess.transport, guess.transport - IP_HEADER].map(u16::to_ne_bytes).concat();
                Some(Round { dump, wanted })
            })
            .collect();
        if let Some(rounds) = rounds
            && let Ok(headers) = place("the headers", 2, &rounds)
        {
            found.push((head, headers));
        }
    }
    let &[(head, headers)] = found.as_slice() else {
        return Err(format!("sk_buff.head may be at {} places", found.len()));
    };
    let mut layout = Layout::default();
    layout.add("sk_buff.head", "unsigned char *", head, 8);
    layout.add("sk_buff.data", "unsigned char *", head + 8, 8);
    layout.add("sk_buff.transport_header", "__u16", headers, 2);
    layout.add("sk_buff.network_header", "__u16", headers + 2, 2);
    Ok(layout)
}

/// Every place that may be `head`, with `data` behind it.
fn guesses(dump: &[u8]) -> impl Iterator<Item = Guess> + '_ {
    let pointer = |at: usize| dump.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
    (0..dump.len()).step_by(8).filter_map(move |at| {
        let (head, data) = (pointer(at)?, pointer(at + 8)?);
        // The kernel's half of the addresses.
        let is_kernel = head >> 63 == 1;
        let transport = u16::try_from(data.checked_sub(head)?).ok()?.checked_sub(ICMP_HEADER)?;
        (is_kernel && transport >= IP_HEADER).then_some(Guess { head: at, transport })
    })
}

/// Reads pings through the members that were found: the identifier must be ours, and the sequence number the one that was sent.
fn verify(target: &Target, layout: &Layout) -> Result<(), String> {
    let at = |path: &str| {
        let field = layout.field(path).ok_or_else(|| format!("{path} was not found"))?;
        i32::try_from(field.offset).map_err(|error| error.to_string())
    };
    let (head, transport) = (at("sk_buff.head")?, at("sk_buff.transport_header")?);
    let mut read = zeros();
    read.splice(bpf! {
        r3 = r7;
        r3 += {head};
        {read_kernel(target, -DUMP, 8)};
        r3 = r7;
        r3 += {transport};
        {read_kernel(target, -DUMP + 8, 2)};
        r3 = *(u64 *)(r10 + {-DUMP});
        r1 = *(u16 *)(r10 + {-DUMP + 8});
        r3 += r1;
        {read_kernel(target, -DUMP + 16, 8)};           // struct icmphdr
    });
    let ours = |dump: &[u8], sequence: u16| {
        dump.get(20..24) == Some([PING_ID.to_be_bytes(), sequence.to_be_bytes()].concat().as_slice())
    };
    pinged(target, read, ours).map(drop).map_err(|error| format!("the places that were found do not hold: {error}"))
}

/// Nothing but zeros in what is copied.
fn zeros() -> Asm {
    let mut code = Asm::new();
    for slot in (-DUMP..0).step_by(8) {
        code.splice(bpf! { *(u64 *)(r10 + {slot}) = 0; });
    }
    code
}

/// The member that is found by itself, where a tracepoint tells the rest of what is to be known of a packet.
pub(super) const PROTOCOL: &str = "sk_buff.protocol";

/// ETH_P_IP and ETH_P_IPV6 of include/uapi/linux/if_ether.h.
fn ether_type(to: IpAddr) -> u16 {
    if to.is_ipv4() { 0x0800 } else { 0x86dd }
}

/// Sends datagrams of IPv4 and of IPv6, and looks where packets differ by that, at a tracepoint that every one of them passes.
pub(super) fn protocol(target: &Target) -> Result<Layout, String> {
    let attach = Attach::Tracepoint { category: "net".to_owned(), name: "netif_receive_skb".to_owned() };
    let read = bpf! {
        r3 = r7;
        {read_kernel(target, -DUMP, DUMP)};
    };
    let packet = bpf! { r7 = *(u64 *)(r6 + ctx.skbaddr); };
    let mut dumper = Dumper::at(target, attach, packet, read).map_err(|error| chain(&error))?;
    let mut seen = Vec::new();
    for round in 0..ROUNDS {
        let mut send = |to: IpAddr| {
            let Sent { length, mut dumps } = datagram(&mut dumper, to)?;
            dumps.iter_mut().for_each(|dump| dump.truncate(OWN));
            dumps.retain(|dump| dump.chunks_exact(4).any(|word| word == length.to_ne_bytes()));
            match (dumps.pop(), dumps.is_empty()) {
                (Some(dump), true) => Ok((to, dump)),
                (None, _) => Err(format!("a datagram to {to} was not seen")),
                _ => Err(format!("other packets came in between those to {to}")),
            }
        };
        seen.push(send(Ipv4Addr::new(127, 64 + round, 1, 1).into())?);
        // IPv6 may be off, or not there.
        seen.extend(send(Ipv6Addr::LOCALHOST.into()));
    }
    among(&seen)
}

fn among(seen: &[(IpAddr, Vec<u8>)]) -> Result<Layout, String> {
    let wanted = |to: &IpAddr| ether_type(*to).to_be_bytes().to_vec();
    let rounds: Vec<_> = seen.iter().map(|(to, dump)| Round { dump, wanted: wanted(to) }).collect();
    let mut layout = Layout::default();
    layout.add(PROTOCOL, "__be16", place(PROTOCOL, 2, &rounds)?, 2);
    Ok(layout)
}

/// Whether a function is given packets by pointers to pointers, tried with datagrams of known lengths: the member `len`, whose place is
/// known, is where the argument points to, or where that points to.
pub(crate) fn is_indirect(target: &Target, symbol: &str) -> Result<bool, String> {
    let len = target.field("sk_buff.len").map_err(|error| chain(&error))?;
    let len = i32::try_from(len.offset).map_err(|error| error.to_string())?;
    let mut read = zeros();
    read.splice(bpf! {
        r3 = r7;
        r3 += {len};
        {read_kernel(target, -DUMP, 4)};
        r3 = r7;
        {read_kernel(target, -DUMP + 8, 8)};
        r3 = *(u64 *)(r10 + {-DUMP + 8});
        r3 += {len};
        {read_kernel(target, -DUMP + 16, 4)};
    });
    let mut dumper = Dumper::new(target, symbol, read).map_err(|error| chain(&error))?;
    let mut sent = Vec::new();
    for round in 0..ROUNDS {
        sent.push(datagram(&mut dumper, Ipv4Addr::new(127, 64 + round, 1, 1).into())?);
    }
    let has = |at: usize| {
        sent.iter().all(|sent| sent.dumps.iter().any(|dump| dump[at..].starts_with(&sent.length.to_ne_bytes())))
    };
    match (has(0), has(16)) {
        (true, false) => Ok(false),
        (false, true) => Ok(true),
        _ => Err(format!("what {symbol} is given could not be told")),
    }
}

/// A datagram that went over loopback, and what was copied meanwhile.
struct Sent {
    /// Bytes from the network header on.
    length: u32,
    dumps: Vec<Vec<u8>>,
}

/// Sends a datagram of a length that hardly another has, another one each time, and waits until it came.
fn datagram(dumper: &mut Dumper, to: IpAddr) -> Result<Sent, String> {
    let cannot = |error: std::io::Error| format!("cannot send to {to}: {error}");
    let [.., a, b] = clock::now().to_be_bytes();
    let payload = 1025 + usize::from(u16::from_be_bytes([a & 0x1f, b]));
    let receiver = UdpSocket::bind((to, 0)).map_err(cannot)?;
    receiver.set_read_timeout(Some(Duration::from_secs(1))).map_err(cannot)?;
    dumper.take().map_err(|error| chain(&error))?;
    receiver.send_to(&vec![0; payload], receiver.local_addr().map_err(cannot)?).map_err(cannot)?;
    receiver.recv(&mut [0]).map_err(cannot)?;
    // The headers of IP and of UDP.
    let headers = if to.is_ipv4() { 28 } else { 48 };
    let length = u32::try_from(payload + headers).map_err(|error| error.to_string())?;
    Ok(Sent { length, dumps: dumper.take().map_err(|error| chain(&error))? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with `head` at 192 and the headers at 170, more or less as Linux has them, among other pointers.
    fn packet(base: u64, transport: u16) -> Vec<u8> {
        let mut dump = vec![0; 240];
        let mut put = |at: usize, bytes: &[u8]| dump[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &(base - 0x1000).to_ne_bytes());
        put(24, &0xffff_8880_1234_5678_u64.to_ne_bytes());
        put(170, &[transport, transport - 20, transport - 34].map(u16::to_ne_bytes).concat());
        put(192, &base.to_ne_bytes());
        put(200, &(base + u64::from(transport) + 8).to_ne_bytes());
        dump
    }

    #[test]
    fn members_are_found_by_what_they_say_of_each_other() {
        let dumps = [packet(0xffff_8880_0400_0000, 36), packet(0xffff_8880_0500_0000, 100)];
        let layout = layout(&dumps).unwrap();
        let at = |path: &str| layout.field(path).map(|field| field.offset);
        let paths = ["sk_buff.head", "sk_buff.data", "sk_buff.transport_header", "sk_buff.network_header"];
        assert_eq!(paths.map(at), [192, 200, 170, 172].map(Some));
    }

    #[test]
    fn nothing_and_two_places_are_refused() {
        assert_eq!(layout(&[]), Err("no packet was seen".to_owned()));
        assert_eq!(layout(&[vec![0; 240]]), Err("sk_buff.head may be at 0 places".to_owned()));
        let mut twice = packet(0xffff_8880_0400_0000, 36);
        twice.copy_within(192..208, 208);
        assert_eq!(layout(&[twice]), Err("sk_buff.head may be at 2 places".to_owned()));
    }

    #[test]
    fn the_protocol_is_where_packets_of_ipv4_and_ipv6_differ_by_it() {
        let packet = |to: &str, protocol: [u8; 2]| {
            let mut dump = packet(0xffff_8880_0400_0000, 36);
            dump[176..178].copy_from_slice(&protocol);
            // A number that looks like the one of IPv4.
            dump[40..42].copy_from_slice(&[8, 0]);
            (to.parse().unwrap(), dump)
        };
        let seen = [packet("127.64.1.1", [8, 0]), packet("::1", [0x86, 0xdd]), packet("127.65.1.1", [8, 0])];
        assert_eq!(among(&seen).unwrap().field(PROTOCOL).map(|field| (field.offset, field.size)), Some((176, 2)));
        assert_eq!(among(&seen[..1]), Err("sk_buff.protocol may be at 40 and at 176".to_owned()));
        assert_eq!(among(&[]), Err("sk_buff.protocol was not found".to_owned()));
    }
}
