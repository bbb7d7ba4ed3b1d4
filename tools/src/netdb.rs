//! What the functions of netdb.h answer: codes by name, and structures of the C ABI.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `struct addrinfo` from `ai_addrlen` on: what to read, and where its members are in that.
pub mod addrinfo {
    use super::{number, offset_of};

    const FIRST: usize = offset_of!(libc::addrinfo, ai_addrlen);
    /// Where the part begins.
    pub const START: i32 = number(FIRST);
    /// Bytes of the part.
    pub const SIZE: i32 = number(size_of::<libc::addrinfo>() - FIRST);
    /// The address.
    pub const ADDR: i32 = number(offset_of!(libc::addrinfo, ai_addr) - FIRST);
    /// The next one.
    pub const NEXT: i32 = number(offset_of!(libc::addrinfo, ai_next) - FIRST);
}

/// `struct hostent`: what to read, and where its members are in that.
pub mod hostent {
    use super::{number, offset_of};

    /// Bytes.
    pub const SIZE: i32 = number(size_of::<libc::hostent>());
    /// The name.
    pub const NAME: i32 = number(offset_of!(libc::hostent, h_name));
    /// The family of the addresses.
    pub const FAMILY: i32 = number(offset_of!(libc::hostent, h_addrtype));
    /// Bytes of an address.
    pub const LENGTH: i32 = number(offset_of!(libc::hostent, h_length));
    /// The addresses' addresses, ended by a null pointer.
    pub const LIST: i32 = number(offset_of!(libc::hostent, h_addr_list));
}

// Both end with their last member here, and neither is larger than the room that the programs have for it.
const _: () = assert!(addrinfo::NEXT + 8 == addrinfo::SIZE && addrinfo::SIZE <= 32);
const _: () = assert!(hostent::LIST + 8 == hostent::SIZE && hostent::SIZE <= 32);

/// A distance within a structure as instructions have it; those are small.
const fn number(distance: usize) -> i32 {
    assert!(distance < 256);
    let [low, ..] = distance.to_le_bytes();
    i32::from_le_bytes([low, 0, 0, 0])
}

/// The name of what getaddrinfo returns: the codes are those of glibc, and the ones that musl knows have the same numbers.
pub fn eai(code: i32) -> String {
    const NAMES: [(i32, &str); 17] = [
        (-1, "EAI_BADFLAGS"),
        (-2, "EAI_NONAME"),
        (-3, "EAI_AGAIN"),
        (-4, "EAI_FAIL"),
        (-5, "EAI_NODATA"),
        (-6, "EAI_FAMILY"),
        (-7, "EAI_SOCKTYPE"),
        (-8, "EAI_SERVICE"),
        (-9, "EAI_ADDRFAMILY"),
        (-10, "EAI_MEMORY"),
        (-11, "EAI_SYSTEM"),
        (-12, "EAI_OVERFLOW"),
        (-100, "EAI_INPROGRESS"),
        (-101, "EAI_CANCELED"),
        (-103, "EAI_ALLDONE"),
        (-104, "EAI_INTR"),
        (-105, "EAI_IDN_ENCODE"),
    ];
    let name = NAMES.iter().find(|(known, _)| *known == code);
    name.map_or_else(|| format!("EAI_{code}"), |(_, name)| (*name).to_owned())
}

/// The name of an error number that gethostbyname_r and its like return.
pub fn errno(code: i32) -> String {
    const NAMES: [(i32, &str); 8] = [
        (libc::ENOENT, "ENOENT"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::EINVAL, "EINVAL"),
        (libc::ERANGE, "ERANGE"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
        (libc::ETIMEDOUT, "ETIMEDOUT"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
    ];
    let name = NAMES.iter().find(|(known, _)| *known == code);
    name.map_or_else(|| format!("errno {code}"), |(_, name)| (*name).to_owned())
}

/// An address that a look-up found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// The interface that a link-local address is of; 0 where it is of none.
    pub scope: u32,
}

impl Address {
    /// The address in a `struct sockaddr_in` or `struct sockaddr_in6`; none where it is neither.
    pub fn of_sockaddr(bytes: &[u8]) -> Option<Self> {
        match family(bytes)? {
            libc::AF_INET => Self::new(libc::AF_INET, bytes.get(4..)?, 0),
            family => {
                let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
                Self::new(family, bytes.get(8..)?, scope)
            }
        }
    }

    /// The address at the start of these bytes.
    pub fn new(family: i32, bytes: &[u8], scope: u32) -> Option<Self> {
        let ip = match family {
            libc::AF_INET => Ipv4Addr::from(*bytes.first_chunk::<4>()?).into(),
            libc::AF_INET6 => Ipv6Addr::from(*bytes.first_chunk::<16>()?).into(),
            _ => return None,
        };
        Some(Self { ip, scope })
    }

    /// 4 or 6.
    pub fn version(&self) -> u8 {
        if self.ip.is_ipv4() { 4 } else { 6 }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.ip.fmt(f)?;
        if self.scope == 0 { Ok(()) } else { write!(f, "%{}", self.scope) }
    }
}

/// The number that begins every socket address.
pub fn family(bytes: &[u8]) -> Option<i32> {
    Some(u16::from_ne_bytes(*bytes.first_chunk()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_of_the_c_library() {
        for (code, name) in [
            (libc::EAI_NONAME, "EAI_NONAME"),
            (libc::EAI_AGAIN, "EAI_AGAIN"),
            (libc::EAI_SYSTEM, "EAI_SYSTEM"),
            (libc::EAI_OVERFLOW, "EAI_OVERFLOW"),
            (libc::EAI_NODATA, "EAI_NODATA"),
            (77, "EAI_77"),
        ] {
            assert_eq!(eai(code), name);
        }
        assert_eq!((errno(34).as_str(), errno(5).as_str()), ("ERANGE", "errno 5"));
    }

    #[test]
    fn socket_addresses_are_read_and_garbage_is_none() {
        let mut v6 = [0; 28];
        v6[0] = 10;
        v6[8..24].copy_from_slice(&Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).octets());
        v6[24] = 2;
        assert_eq!(Address::of_sockaddr(&v6).map(|address| address.to_string()), Some("fe80::1%2".to_owned()));
        let v4 = [2, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Address::of_sockaddr(&v4).map(|address| address.to_string()), Some("127.0.0.1".to_owned()));
        // What is at the address of the result itself: a pointer into the heap.
        assert_eq!(Address::of_sockaddr(&0x7f12_3456_7890_u64.to_ne_bytes().repeat(4)), None);
        for end in 0..v6.len() {
            assert_eq!(Address::of_sockaddr(&v6[..end]), None, "{end}");
        }
    }
}
