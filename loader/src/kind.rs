//! The types of programs and maps: one list each, with the names that bpftool uses and the kernels that brought them.

use bpfkit_asm::Version;

/// Where the list says it all: constant, name, number, first mainline kernel.
macro_rules! kinds {
    ($kind:ident: $($constant:ident $name:ident $number:literal $major:literal . $minor:literal;)*) => {
        #[allow(missing_docs)] // the kernel's names
        impl $kind {
            $(pub const $constant: Self = Self($number);)*
        }

        impl $kind {
            /// Every type that is known here, with its name and the kernel that brought it, by number from 1.
            pub const ALL: &'static [(Self, &'static str, Version)] =
                &[$((Self($number), stringify!($name), Version::new($major, $minor)),)*];

            fn entry(self) -> Option<&'static (Self, &'static str, Version)> {
                Self::ALL.get(usize::try_from(self.0).ok()?.checked_sub(1)?)
            }

            /// Its name, as bpftool has it: that of the kernel in small letters.
            pub fn name(self) -> Option<&'static str> {
                self.entry().map(|&(_, name, _)| name)
            }

            /// The type of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().find(|(_, known, _)| *known == name).map(|&(kind, ..)| kind)
            }

            /// The first mainline kernel that has it.
            pub fn since(self) -> Option<Version> {
                self.entry().map(|&(.., since)| since)
            }
        }
    };
}

/// What kind of program it is: `enum bpf_prog_type`. The set is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProgType(pub u32);

#[rustfmt::skip]
kinds! {
    ProgType:
    SOCKET_FILTER socket_filter 1 3 . 19;
    KPROBE kprobe 2 4 . 1;
    SCHED_CLS sched_cls 3 4 . 1;
    SCHED_ACT sched_act 4 4 . 1;
    TRACEPOINT tracepoint 5 4 . 7;
    XDP xdp 6 4 . 8;
    PERF_EVENT perf_event 7 4 . 9;
    CGROUP_SKB cgroup_skb 8 4 . 10;
    CGROUP_SOCK cgroup_sock 9 4 . 10;
    LWT_IN lwt_in 10 4 . 10;
    LWT_OUT lwt_out 11 4 . 10;
    LWT_XMIT lwt_xmit 12 4 . 10;
    SOCK_OPS sock_ops 13 4 . 13;
    SK_SKB sk_skb 14 4 . 14;
    CGROUP_DEVICE cgroup_device 15 4 . 15;
    SK_MSG sk_msg 16 4 . 17;
    RAW_TRACEPOINT raw_tracepoint 17 4 . 17;
    CGROUP_SOCK_ADDR cgroup_sock_addr 18 4 . 17;
    LWT_SEG6LOCAL lwt_seg6local 19 4 . 18;
    LIRC_MODE2 lirc_mode2 20 4 . 18;
    SK_REUSEPORT sk_reuseport 21 4 . 19;
    FLOW_DISSECTOR flow_dissector 22 4 . 20;
    CGROUP_SYSCTL cgroup_sysctl 23 5 . 2;
    RAW_TRACEPOINT_WRITABLE raw_tracepoint_writable 24 5 . 2;
    CGROUP_SOCKOPT cgroup_sockopt 25 5 . 3;
    TRACING tracing 26 5 . 5;
    STRUCT_OPS struct_ops 27 5 . 6;
    EXT ext 28 5 . 6;
    LSM lsm 29 5 . 7;
    SK_LOOKUP sk_lookup 30 5 . 9;
    SYSCALL syscall 31 5 . 14;
    NETFILTER netfilter 32 6 . 4;
}

/// What kind of map it is: `enum bpf_map_type`. The set is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MapType(pub u32);

#[rustfmt::skip]
kinds! {
    MapType:
    HASH hash 1 3 . 19;
    ARRAY array 2 3 . 19;
    PROG_ARRAY prog_array 3 4 . 2;
    PERF_EVENT_ARRAY perf_event_array 4 4 . 3;
    PERCPU_HASH percpu_hash 5 4 . 6;
    PERCPU_ARRAY percpu_array 6 4 . 6;
    STACK_TRACE stack_trace 7 4 . 6;
    CGROUP_ARRAY cgroup_array 8 4 . 8;
    LRU_HASH lru_hash 9 4 . 10;
    LRU_PERCPU_HASH lru_percpu_hash 10 4 . 10;
    LPM_TRIE lpm_trie 11 4 . 11;
    ARRAY_OF_MAPS array_of_maps 12 4 . 12;
    HASH_OF_MAPS hash_of_maps 13 4 . 12;
    DEVMAP devmap 14 4 . 14;
    SOCKMAP sockmap 15 4 . 14;
    CPUMAP cpumap 16 4 . 15;
    XSKMAP xskmap 17 4 . 18;
    SOCKHASH sockhash 18 4 . 18;
    CGROUP_STORAGE cgroup_storage 19 4 . 19;
    REUSEPORT_SOCKARRAY reuseport_sockarray 20 4 . 19;
    PERCPU_CGROUP_STORAGE percpu_cgroup_storage 21 4 . 20;
    QUEUE queue 22 4 . 20;
    STACK stack 23 4 . 20;
    SK_STORAGE sk_storage 24 5 . 2;
    DEVMAP_HASH devmap_hash 25 5 . 4;
    STRUCT_OPS struct_ops 26 5 . 6;
    RINGBUF ringbuf 27 5 . 8;
    INODE_STORAGE inode_storage 28 5 . 10;
    TASK_STORAGE task_storage 29 5 . 11;
    BLOOM_FILTER bloom_filter 30 5 . 16;
    USER_RINGBUF user_ringbuf 31 6 . 1;
    CGRP_STORAGE cgrp_storage 32 6 . 2;
    ARENA arena 33 6 . 9;
    INSN_ARRAY insn_array 34 6 . 19;
    RHASH rhash 35 7 . 2;
}

impl MapType {
    /// Whether a value has a part for each possible CPU.
    pub fn is_per_cpu(self) -> bool {
        // As bpf_map_value_size in kernel/bpf/syscall.c has it.
        matches!(self, Self::PERCPU_HASH | Self::PERCPU_ARRAY | Self::LRU_PERCPU_HASH | Self::PERCPU_CGROUP_STORAGE)
    }

    /// Whether the bytes of its values, as system calls copy them, are known here: up to BPF_MAP_TYPE_INSN_ARRAY of Linux 6.19.
    pub(crate) fn is_known(self) -> bool {
        (1..=34).contains(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_each_other_and_versions_never_go_back() {
        assert!((1..).zip(ProgType::ALL).all(|(number, (kind, ..))| kind.0 == number));
        assert!((1..).zip(MapType::ALL).all(|(number, (kind, ..))| kind.0 == number));
        assert!(ProgType::ALL.is_sorted_by_key(|&(.., since)| since));
        assert!(MapType::ALL.is_sorted_by_key(|&(.., since)| since));
    }

    #[test]
    fn a_type_of_a_newer_kernel_has_no_name() {
        assert_eq!((ProgType::LSM.name(), ProgType::LSM.since()), (Some("lsm"), Some(Version::new(5, 7))));
        assert_eq!((ProgType::from_name("xdp"), MapType::from_name("xdp")), (Some(ProgType::XDP), None));
        for unknown in [0, 1000, u32::MAX] {
            assert_eq!((ProgType(unknown).name(), MapType(unknown).since()), (None, None));
        }
    }
}
