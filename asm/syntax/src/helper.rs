//! The helper functions: one list of names, numbers and first kernels.

use std::fmt;

use crate::Version;

/// A helper function of the kernel by its number, `enum bpf_func_id` in include/uapi/linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Helper(pub u32);

/// Where the list says it all: constant, name in the kernel, number, first mainline kernel.
macro_rules! helpers {
    ($($constant:ident $name:ident $number:literal $major:literal . $minor:literal;)*) => {
        impl Helper {
            $(
                #[doc = concat!("`", stringify!($name), "`, since Linux ", $major, ".", $minor)]
                pub const $constant: Self = Self($number);
            )*

            /// Every helper with its name and the kernel that brought it, by number from 1. The set is closed: the kernel adds
            /// kfuncs instead.
            pub const ALL: &'static [(Self, &'static str, Version)] =
                &[$((Self($number), stringify!($name), Version::new($major, $minor)),)*];
        }
    };
}

impl Helper {
    fn entry(self) -> Option<&'static (Self, &'static str, Version)> {
        Self::ALL.get(usize::try_from(self.0).ok()?.checked_sub(1)?)
    }

    /// Its name, such as `bpf_map_lookup_elem`.
    pub fn name(self) -> Option<&'static str> {
        self.entry().map(|&(_, name, _)| name)
    }

    /// The first mainline kernel that has it. Which program types may call it is another question.
    pub fn since(self) -> Option<Version> {
        self.entry().map(|&(.., since)| since)
    }

    /// The helper of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|&(helper, ..)| helper)
    }
}

impl fmt::Display for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name().unwrap_or("unknown"), self.0)
    }
}

#[rustfmt::skip]
helpers! {
    MAP_LOOKUP_ELEM bpf_map_lookup_elem 1 3 . 19;
    MAP_UPDATE_ELEM bpf_map_update_elem 2 3 . 19;
    MAP_DELETE_ELEM bpf_map_delete_elem 3 3 . 19;
    PROBE_READ bpf_probe_read 4 4 . 1;
    KTIME_GET_NS bpf_ktime_get_ns 5 4 . 1;
    TRACE_PRINTK bpf_trace_printk 6 4 . 1;
    GET_PRANDOM_U32 bpf_get_prandom_u32 7 4 . 1;
    GET_SMP_PROCESSOR_ID bpf_get_smp_processor_id 8 4 . 1;
    SKB_STORE_BYTES bpf_skb_store_bytes 9 4 . 1;
    L3_CSUM_REPLACE bpf_l3_csum_replace 10 4 . 1;
    L4_CSUM_REPLACE bpf_l4_csum_replace 11 4 . 1;
    TAIL_CALL bpf_tail_call 12 4 . 2;
    CLONE_REDIRECT bpf_clone_redirect 13 4 . 2;
    GET_CURRENT_PID_TGID bpf_get_current_pid_tgid 14 4 . 2;
    GET_CURRENT_UID_GID bpf_get_current_uid_gid 15 4 . 2;
    GET_CURRENT_COMM bpf_get_current_comm 16 4 . 2;
    GET_CGROUP_CLASSID bpf_get_cgroup_classid 17 4 . 3;
    SKB_VLAN_PUSH bpf_skb_vlan_push 18 4 . 3;
    SKB_VLAN_POP bpf_skb_vlan_pop 19 4 . 3;
    SKB_GET_TUNNEL_KEY bpf_skb_get_tunnel_key 20 4 . 3;
    SKB_SET_TUNNEL_KEY bpf_skb_set_tunnel_key 21 4 . 3;
    PERF_EVENT_READ bpf_perf_event_read 22 4 . 3;
    REDIRECT bpf_redirect 23 4 . 4;
    GET_ROUTE_REALM bpf_get_route_realm 24 4 . 4;
    PERF_EVENT_OUTPUT bpf_perf_event_output 25 4 . 4;
    SKB_LOAD_BYTES bpf_skb_load_bytes 26 4 . 5;
    GET_STACKID bpf_get_stackid 27 4 . 6;
    CSUM_DIFF bpf_csum_diff 28 4 . 6;
    SKB_GET_TUNNEL_OPT bpf_skb_get_tunnel_opt 29 4 . 6;
    SKB_SET_TUNNEL_OPT bpf_skb_set_tunnel_opt 30 4 . 6;
    SKB_CHANGE_PROTO bpf_skb_change_proto 31 4 . 8;
    SKB_CHANGE_TYPE bpf_skb_change_type 32 4 . 8;
    SKB_UNDER_CGROUP bpf_skb_under_cgroup 33 4 . 8;
    GET_HASH_RECALC bpf_get_hash_recalc 34 4 . 8;
    GET_CURRENT_TASK bpf_get_current_task 35 4 . 8;
    PROBE_WRITE_USER bpf_probe_write_user 36 4 . 8;
    CURRENT_TASK_UNDER_CGROUP bpf_current_task_under_cgroup 37 4 . 9;
    SKB_CHANGE_TAIL bpf_skb_change_tail 38 4 . 9;
    SKB_PULL_DATA bpf_skb_pull_data 39 4 . 9;
    CSUM_UPDATE bpf_csum_update 40 4 . 9;
    SET_HASH_INVALID bpf_set_hash_invalid 41 4 . 9;
    GET_NUMA_NODE_ID bpf_get_numa_node_id 42 4 . 10;
    SKB_CHANGE_HEAD bpf_skb_change_head 43 4 . 10;
    XDP_ADJUST_HEAD bpf_xdp_adjust_head 44 4 . 10;
    PROBE_READ_STR bpf_probe_read_str 45 4 . 11;
    GET_SOCKET_COOKIE bpf_get_socket_cookie 46 4 . 12;
    GET_SOCKET_UID bpf_get_socket_uid 47 4 . 12;
    SET_HASH bpf_set_hash 48 4 . 13;
    SETSOCKOPT bpf_setsockopt 49 4 . 13;
    SKB_ADJUST_ROOM bpf_skb_adjust_room 50 4 . 13;
    REDIRECT_MAP bpf_redirect_map 51 4 . 14;
    SK_REDIRECT_MAP bpf_sk_redirect_map 52 4 . 14;
    SOCK_MAP_UPDATE bpf_sock_map_update 53 4 . 14;
    XDP_ADJUST_META bpf_xdp_adjust_meta 54 4 . 15;
    PERF_EVENT_READ_VALUE bpf_perf_event_read_value 55 4 . 15;
    PERF_PROG_READ_VALUE bpf_perf_prog_read_value 56 4 . 15;
    GETSOCKOPT bpf_getsockopt 57 4 . 15;
    OVERRIDE_RETURN bpf_override_return 58 4 . 16;
    SOCK_OPS_CB_FLAGS_SET bpf_sock_ops_cb_flags_set 59 4 . 16;
    MSG_REDIRECT_MAP bpf_msg_redirect_map 60 4 . 17;
    MSG_APPLY_BYTES bpf_msg_apply_bytes 61 4 . 17;
    MSG_CORK_BYTES bpf_msg_cork_bytes 62 4 . 17;
    MSG_PULL_DATA bpf_msg_pull_data 63 4 . 17;
    BIND bpf_bind 64 4 . 17;
    XDP_ADJUST_TAIL bpf_xdp_adjust_tail 65 4 . 18;
    SKB_GET_XFRM_STATE bpf_skb_get_xfrm_state 66 4 . 18;
    GET_STACK bpf_get_stack 67 4 . 18;
    SKB_LOAD_BYTES_RELATIVE bpf_skb_load_bytes_relative 68 4 . 18;
    FIB_LOOKUP bpf_fib_lookup 69 4 . 18;
    SOCK_HASH_UPDATE bpf_sock_hash_update 70 4 . 18;
    MSG_REDIRECT_HASH bpf_msg_redirect_hash 71 4 . 18;
    SK_REDIRECT_HASH bpf_sk_redirect_hash 72 4 . 18;
    LWT_PUSH_ENCAP bpf_lwt_push_encap 73 4 . 18;
    LWT_SEG6_STORE_BYTES bpf_lwt_seg6_store_bytes 74 4 . 18;
    LWT_SEG6_ADJUST_SRH bpf_lwt_seg6_adjust_srh 75 4 . 18;
    LWT_SEG6_ACTION bpf_lwt_seg6_action 76 4 . 18;
    RC_REPEAT bpf_rc_repeat 77 4 . 18;
    RC_KEYDOWN bpf_rc_keydown 78 4 . 18;
    SKB_CGROUP_ID bpf_skb_cgroup_id 79 4 . 18;
    GET_CURRENT_CGROUP_ID bpf_get_current_cgroup_id 80 4 . 18;
    GET_LOCAL_STORAGE bpf_get_local_storage 81 4 . 19;
    SK_SELECT_REUSEPORT bpf_sk_select_reuseport 82 4 . 19;
    SKB_ANCESTOR_CGROUP_ID bpf_skb_ancestor_cgroup_id 83 4 . 19;
    SK_LOOKUP_TCP bpf_sk_lookup_tcp 84 4 . 20;
    SK_LOOKUP_UDP bpf_sk_lookup_udp 85 4 . 20;
    SK_RELEASE bpf_sk_release 86 4 . 20;
    MAP_PUSH_ELEM bpf_map_push_elem 87 4 . 20;
    MAP_POP_ELEM bpf_map_pop_elem 88 4 . 20;
    MAP_PEEK_ELEM bpf_map_peek_elem 89 4 . 20;
    MSG_PUSH_DATA bpf_msg_push_data 90 4 . 20;
    MSG_POP_DATA bpf_msg_pop_data 91 5 . 0;
    RC_POINTER_REL bpf_rc_pointer_rel 92 5 . 0;
    SPIN_LOCK bpf_spin_lock 93 5 . 1;
    SPIN_UNLOCK bpf_spin_unlock 94 5 . 1;
    SK_FULLSOCK bpf_sk_fullsock 95 5 . 1;
    TCP_SOCK bpf_tcp_sock 96 5 . 1;
    SKB_ECN_SET_CE bpf_skb_ecn_set_ce 97 5 . 1;
    GET_LISTENER_SOCK bpf_get_listener_sock 98 5 . 1;
    SKC_LOOKUP_TCP bpf_skc_lookup_tcp 99 5 . 2;
    TCP_CHECK_SYNCOOKIE bpf_tcp_check_syncookie 100 5 . 2;
    SYSCTL_GET_NAME bpf_sysctl_get_name 101 5 . 2;
    SYSCTL_GET_CURRENT_VALUE bpf_sysctl_get_current_value 102 5 . 2;
    SYSCTL_GET_NEW_VALUE bpf_sysctl_get_new_value 103 5 . 2;
    SYSCTL_SET_NEW_VALUE bpf_sysctl_set_new_value 104 5 . 2;
    STRTOL bpf_strtol 105 5 . 2;
    STRTOUL bpf_strtoul 106 5 . 2;
    SK_STORAGE_GET bpf_sk_storage_get 107 5 . 2;
    SK_STORAGE_DELETE bpf_sk_storage_delete 108 5 . 2;
    SEND_SIGNAL bpf_send_signal 109 5 . 3;
    TCP_GEN_SYNCOOKIE bpf_tcp_gen_syncookie 110 5 . 3;
    SKB_OUTPUT bpf_skb_output 111 5 . 5;
    PROBE_READ_USER bpf_probe_read_user 112 5 . 5;
    PROBE_READ_KERNEL bpf_probe_read_kernel 113 5 . 5;
    PROBE_READ_USER_STR bpf_probe_read_user_str 114 5 . 5;
    PROBE_READ_KERNEL_STR bpf_probe_read_kernel_str 115 5 . 5;
    TCP_SEND_ACK bpf_tcp_send_ack 116 5 . 5;
    SEND_SIGNAL_THREAD bpf_send_signal_thread 117 5 . 5;
    JIFFIES64 bpf_jiffies64 118 5 . 5;
    READ_BRANCH_RECORDS bpf_read_branch_records 119 5 . 6;
    GET_NS_CURRENT_PID_TGID bpf_get_ns_current_pid_tgid 120 5 . 7;
    XDP_OUTPUT bpf_xdp_output 121 5 . 7;
    GET_NETNS_COOKIE bpf_get_netns_cookie 122 5 . 7;
    GET_CURRENT_ANCESTOR_CGROUP_ID bpf_get_current_ancestor_cgroup_id 123 5 . 7;
    SK_ASSIGN bpf_sk_assign 124 5 . 7;
    KTIME_GET_BOOT_NS bpf_ktime_get_boot_ns 125 5 . 8;
    SEQ_PRINTF bpf_seq_printf 126 5 . 8;
    SEQ_WRITE bpf_seq_write 127 5 . 8;
    SK_CGROUP_ID bpf_sk_cgroup_id 128 5 . 8;
    SK_ANCESTOR_CGROUP_ID bpf_sk_ancestor_cgroup_id 129 5 . 8;
    RINGBUF_OUTPUT bpf_ringbuf_output 130 5 . 8;
    RINGBUF_RESERVE bpf_ringbuf_reserve 131 5 . 8;
    RINGBUF_SUBMIT bpf_ringbuf_submit 132 5 . 8;
    RINGBUF_DISCARD bpf_ringbuf_discard 133 5 . 8;
    RINGBUF_QUERY bpf_ringbuf_query 134 5 . 8;
    CSUM_LEVEL bpf_csum_level 135 5 . 8;
    SKC_TO_TCP6_SOCK bpf_skc_to_tcp6_sock 136 5 . 9;
    SKC_TO_TCP_SOCK bpf_skc_to_tcp_sock 137 5 . 9;
    SKC_TO_TCP_TIMEWAIT_SOCK bpf_skc_to_tcp_timewait_sock 138 5 . 9;
    SKC_TO_TCP_REQUEST_SOCK bpf_skc_to_tcp_request_sock 139 5 . 9;
    SKC_TO_UDP6_SOCK bpf_skc_to_udp6_sock 140 5 . 9;
    GET_TASK_STACK bpf_get_task_stack 141 5 . 9;
    LOAD_HDR_OPT bpf_load_hdr_opt 142 5 . 10;
    STORE_HDR_OPT bpf_store_hdr_opt 143 5 . 10;
    RESERVE_HDR_OPT bpf_reserve_hdr_opt 144 5 . 10;
    INODE_STORAGE_GET bpf_inode_storage_get 145 5 . 10;
    INODE_STORAGE_DELETE bpf_inode_storage_delete 146 5 . 10;
    D_PATH bpf_d_path 147 5 . 10;
    COPY_FROM_USER bpf_copy_from_user 148 5 . 10;
    SNPRINTF_BTF bpf_snprintf_btf 149 5 . 10;
    SEQ_PRINTF_BTF bpf_seq_printf_btf 150 5 . 10;
    SKB_CGROUP_CLASSID bpf_skb_cgroup_classid 151 5 . 10;
    REDIRECT_NEIGH bpf_redirect_neigh 152 5 . 10;
    PER_CPU_PTR bpf_per_cpu_ptr 153 5 . 10;
    THIS_CPU_PTR bpf_this_cpu_ptr 154 5 . 10;
    REDIRECT_PEER bpf_redirect_peer 155 5 . 10;
    TASK_STORAGE_GET bpf_task_storage_get 156 5 . 11;
    TASK_STORAGE_DELETE bpf_task_storage_delete 157 5 . 11;
    GET_CURRENT_TASK_BTF bpf_get_current_task_btf 158 5 . 11;
    BPRM_OPTS_SET bpf_bprm_opts_set 159 5 . 11;
    KTIME_GET_COARSE_NS bpf_ktime_get_coarse_ns 160 5 . 11;
    IMA_INODE_HASH bpf_ima_inode_hash 161 5 . 11;
    SOCK_FROM_FILE bpf_sock_from_file 162 5 . 11;
    CHECK_MTU bpf_check_mtu 163 5 . 12;
    FOR_EACH_MAP_ELEM bpf_for_each_map_elem 164 5 . 13;
    SNPRINTF bpf_snprintf 165 5 . 13;
    SYS_BPF bpf_sys_bpf 166 5 . 14;
    BTF_FIND_BY_NAME_KIND bpf_btf_find_by_name_kind 167 5 . 14;
    SYS_CLOSE bpf_sys_close 168 5 . 14;
    TIMER_INIT bpf_timer_init 169 5 . 15;
    TIMER_SET_CALLBACK bpf_timer_set_callback 170 5 . 15;
    TIMER_START bpf_timer_start 171 5 . 15;
    TIMER_CANCEL bpf_timer_cancel 172 5 . 15;
    GET_FUNC_IP bpf_get_func_ip 173 5 . 15;
    GET_ATTACH_COOKIE bpf_get_attach_cookie 174 5 . 15;
    TASK_PT_REGS bpf_task_pt_regs 175 5 . 15;
    GET_BRANCH_SNAPSHOT bpf_get_branch_snapshot 176 5 . 16;
    TRACE_VPRINTK bpf_trace_vprintk 177 5 . 16;
    SKC_TO_UNIX_SOCK bpf_skc_to_unix_sock 178 5 . 16;
    KALLSYMS_LOOKUP_NAME bpf_kallsyms_lookup_name 179 5 . 16;
    FIND_VMA bpf_find_vma 180 5 . 17;
    LOOP bpf_loop 181 5 . 17;
    STRNCMP bpf_strncmp 182 5 . 17;
    GET_FUNC_ARG bpf_get_func_arg 183 5 . 17;
    GET_FUNC_RET bpf_get_func_ret 184 5 . 17;
    GET_FUNC_ARG_CNT bpf_get_func_arg_cnt 185 5 . 17;
    GET_RETVAL bpf_get_retval 186 5 . 18;
    SET_RETVAL bpf_set_retval 187 5 . 18;
    XDP_GET_BUFF_LEN bpf_xdp_get_buff_len 188 5 . 18;
    XDP_LOAD_BYTES bpf_xdp_load_bytes 189 5 . 18;
    XDP_STORE_BYTES bpf_xdp_store_bytes 190 5 . 18;
    COPY_FROM_USER_TASK bpf_copy_from_user_task 191 5 . 18;
    SKB_SET_TSTAMP bpf_skb_set_tstamp 192 5 . 18;
    IMA_FILE_HASH bpf_ima_file_hash 193 5 . 18;
    KPTR_XCHG bpf_kptr_xchg 194 5 . 19;
    MAP_LOOKUP_PERCPU_ELEM bpf_map_lookup_percpu_elem 195 5 . 19;
    SKC_TO_MPTCP_SOCK bpf_skc_to_mptcp_sock 196 5 . 19;
    DYNPTR_FROM_MEM bpf_dynptr_from_mem 197 5 . 19;
    RINGBUF_RESERVE_DYNPTR bpf_ringbuf_reserve_dynptr 198 5 . 19;
    RINGBUF_SUBMIT_DYNPTR bpf_ringbuf_submit_dynptr 199 5 . 19;
    RINGBUF_DISCARD_DYNPTR bpf_ringbuf_discard_dynptr 200 5 . 19;
    DYNPTR_READ bpf_dynptr_read 201 5 . 19;
    DYNPTR_WRITE bpf_dynptr_write 202 5 . 19;
    DYNPTR_DATA bpf_dynptr_data 203 5 . 19;
    TCP_RAW_GEN_SYNCOOKIE_IPV4 bpf_tcp_raw_gen_syncookie_ipv4 204 6 . 0;
    TCP_RAW_GEN_SYNCOOKIE_IPV6 bpf_tcp_raw_gen_syncookie_ipv6 205 6 . 0;
    TCP_RAW_CHECK_SYNCOOKIE_IPV4 bpf_tcp_raw_check_syncookie_ipv4 206 6 . 0;
    TCP_RAW_CHECK_SYNCOOKIE_IPV6 bpf_tcp_raw_check_syncookie_ipv6 207 6 . 0;
    KTIME_GET_TAI_NS bpf_ktime_get_tai_ns 208 6 . 1;
    USER_RINGBUF_DRAIN bpf_user_ringbuf_drain 209 6 . 1;
    CGRP_STORAGE_GET bpf_cgrp_storage_get 210 6 . 2;
    CGRP_STORAGE_DELETE bpf_cgrp_storage_delete 211 6 . 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_each_other_and_versions_never_go_back() {
        for (index, (helper, name, _)) in (1..).zip(Helper::ALL) {
            assert_eq!(helper.0, index, "{name}");
            assert_eq!(Helper::from_name(name), Some(*helper));
        }
        assert!(Helper::ALL.is_sorted_by_key(|&(.., since)| since));
    }

    #[test]
    fn versions_are_those_of_the_kernels_that_brought_them() {
        assert_eq!(Helper::PROBE_READ_KERNEL.since(), Some(Version::new(5, 5)));
        assert_eq!(Helper::GET_CURRENT_CGROUP_ID.since(), Some(Version::new(4, 18)));
        assert_eq!(Helper::LOOP.since(), Some(Version::new(5, 17)));
        assert_eq!(Helper(0).name(), None);
        assert_eq!(Helper(u32::MAX).since(), None);
    }
}
