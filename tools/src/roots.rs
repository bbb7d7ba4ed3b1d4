//! What the tools need of a kernel's types.

/// Every member, function and record that a program of any tool asks the kernel's types for, as [`bpfkit_btf::cut`] takes it. No
/// kernel has all of them. The tests compare it with what the programs ask for. In the order of the alphabet.
pub const ROOTS: &[&str] = &[
    "__netif_receive_skb_core",
    "icmp_echo",
    "icmpv6_echo_reply",
    "linux_binprm.filename",
    "linux_binprm.interp",
    "mm_struct.start_stack",
    "mnt_namespace.ns.inum",
    "net_device.name",
    "nsproxy.mnt_ns",
    "sk_buff.dev",
    "sk_buff.head",
    "sk_buff.len",
    "sk_buff.network_header",
    "sk_buff.protocol",
    "sk_buff.transport_header",
    "sock.__sk_common.skc_addrpair",
    "sock.__sk_common.skc_family",
    "sock.__sk_common.skc_portpair",
    "sock.__sk_common.skc_v6_daddr",
    "sock.__sk_common.skc_v6_rcv_saddr",
    "task_struct.mm",
    "task_struct.nsproxy",
    "task_struct.real_parent",
    "task_struct.tgid",
    "tcp_v4_connect",
    "tcp_v6_connect",
    "trace_event_raw_inet_sock_set_state",
    "trace_event_raw_net_dev_template",
    "trace_event_raw_sched_process_exec",
];

/// The archive of types that this binary was built with; it may be empty.
pub const CARRIED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/btf.archive"));
