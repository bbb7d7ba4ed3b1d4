//! What the helper functions take, do and give: one table, a line a helper, in the order of their numbers.

use crate::Helper;

/// C prototype, a colon, what it does, and after a semicolon what it gives where that is no plain [`Doc::gives`]. It is one text, so
/// that a line costs the binary no more than its letters. The prototypes are those of include/uapi/linux/bpf.h of Linux 6.12.
const TABLE: &str = "\
void *bpf_map_lookup_elem(struct bpf_map *map, const void *key): find the value of a key in a map; its address, or 0 if the map has no such key
long bpf_map_update_elem(struct bpf_map *map, const void *key, const void *value, u64 flags): set the value of a key in a map
long bpf_map_delete_elem(struct bpf_map *map, const void *key): remove a key and its value from a map
long bpf_probe_read(void *dst, u32 size, const void *unsafe_ptr): copy bytes of the kernel or of the current process from an address that may be bad
u64 bpf_ktime_get_ns(void): read the clock CLOCK_MONOTONIC; nanoseconds since boot, without those in suspend
long bpf_trace_printk(const char *fmt, u32 fmt_size, ...): write a line to the kernel's trace_pipe; the number of bytes, or a negative error
u32 bpf_get_prandom_u32(void): make a pseudo-random number; 32 bits of it
u32 bpf_get_smp_processor_id(void): ask on which CPU this runs; its number
long bpf_skb_store_bytes(struct sk_buff *skb, u32 offset, const void *from, u32 len, u64 flags): write bytes into a packet
long bpf_l3_csum_replace(struct sk_buff *skb, u32 offset, u64 from, u64 to, u64 size): correct a packet's IP checksum after a change
long bpf_l4_csum_replace(struct sk_buff *skb, u32 offset, u64 from, u64 to, u64 flags): correct a packet's TCP, UDP or ICMP checksum after a change
long bpf_tail_call(void *ctx, struct bpf_map *prog_array_map, u32 index): go on in a program of a map and never come back; nothing: whoever is here was not sent on
long bpf_clone_redirect(struct sk_buff *skb, u32 ifindex, u64 flags): send a copy of a packet through another interface
u64 bpf_get_current_pid_tgid(void): ask which thread runs; the process (tgid) in the upper 32 bits, the thread (pid) in the lower
u64 bpf_get_current_uid_gid(void): ask for whom the current thread runs; the group (gid) in the upper 32 bits, the user (uid) in the lower
long bpf_get_current_comm(void *buf, u32 size_of_buf): copy the name (comm) of the current thread
u32 bpf_get_cgroup_classid(struct sk_buff *skb): ask for the net_cls class of the current task; it, or 0
long bpf_skb_vlan_push(struct sk_buff *skb, __be16 vlan_proto, u16 vlan_tci): put a VLAN tag on a packet
long bpf_skb_vlan_pop(struct sk_buff *skb): take the VLAN tag off a packet
long bpf_skb_get_tunnel_key(struct sk_buff *skb, struct bpf_tunnel_key *key, u32 size, u64 flags): copy a packet's tunnel metadata, such as its addresses
long bpf_skb_set_tunnel_key(struct sk_buff *skb, struct bpf_tunnel_key *key, u32 size, u64 flags): set a packet's tunnel metadata, such as its addresses
u64 bpf_perf_event_read(struct bpf_map *map, u64 flags): read a counter from a map of perf events; the count, or a negative error
long bpf_redirect(u32 ifindex, u64 flags): send the packet to another interface; the verdict for the program to return
u32 bpf_get_route_realm(struct sk_buff *skb): ask for the realm of a packet's route; it, or 0
long bpf_perf_event_output(void *ctx, struct bpf_map *map, u64 flags, void *data, u64 size): send bytes to user space through a CPU's perf ring
long bpf_skb_load_bytes(const void *skb, u32 offset, void *to, u32 len): copy bytes from a packet
long bpf_get_stackid(void *ctx, struct bpf_map *map, u64 flags): keep the call stack in a map; its number there, or a negative error
s64 bpf_csum_diff(__be32 *from, u32 from_size, __be32 *to, u32 to_size, __wsum seed): compute how a checksum changes from some bytes to others; the difference, or a negative error
long bpf_skb_get_tunnel_opt(struct sk_buff *skb, void *opt, u32 size): copy a packet's tunnel options; their size, or a negative error
long bpf_skb_set_tunnel_opt(struct sk_buff *skb, void *opt, u32 size): set a packet's tunnel options
long bpf_skb_change_proto(struct sk_buff *skb, __be16 proto, u64 flags): make room for turning an IPv4 packet into an IPv6 one or back
long bpf_skb_change_type(struct sk_buff *skb, u32 type): change for whom a packet is (PACKET_HOST and its like)
long bpf_skb_under_cgroup(struct sk_buff *skb, struct bpf_map *map, u32 index): ask whether a packet's socket is in a cgroup of a map or below it; 1 if so, 0 if not, or a negative error
u32 bpf_get_hash_recalc(struct sk_buff *skb): ask for the hash of a packet's flow; the hash
u64 bpf_get_current_task(void): ask for the current thread's struct task_struct; its address
long bpf_probe_write_user(void *dst, const void *src, u32 len): write bytes into the memory of the current process
long bpf_current_task_under_cgroup(struct bpf_map *map, u32 index): ask whether the current thread is in a cgroup of a map or below it; 1 if so, 0 if not, or a negative error
long bpf_skb_change_tail(struct sk_buff *skb, u32 len, u64 flags): make a packet longer or shorter at its end
long bpf_skb_pull_data(struct sk_buff *skb, u32 len): make a packet's first bytes directly readable
s64 bpf_csum_update(struct sk_buff *skb, __wsum csum): add to a packet's checksum; the new one, or a negative error
void bpf_set_hash_invalid(struct sk_buff *skb): have a packet's hash computed anew
long bpf_get_numa_node_id(void): ask on which NUMA node this runs; its number
long bpf_skb_change_head(struct sk_buff *skb, u32 len, u64 flags): make room in front of a packet
long bpf_xdp_adjust_head(struct xdp_buff *xdp_md, int delta): move the start of a packet
long bpf_probe_read_str(void *dst, u32 size, const void *unsafe_ptr): copy a string of the kernel or of the current process from an address that may be bad; bytes with the NUL, or a negative error
u64 bpf_get_socket_cookie(struct sk_buff *skb): ask for the number of a socket; one that no other socket has, or 0 without a socket
u32 bpf_get_socket_uid(struct sk_buff *skb): ask who owns a packet's socket; the user's number
long bpf_set_hash(struct sk_buff *skb, u32 hash): set the hash of a packet's flow
long bpf_setsockopt(void *bpf_socket, int level, int optname, void *optval, int optlen): set an option of a socket
long bpf_skb_adjust_room(struct sk_buff *skb, s32 len_diff, u32 mode, u64 flags): make or take room between a packet's headers
long bpf_redirect_map(struct bpf_map *map, u32 key, u64 flags): send a packet to an element of a map of devices, CPUs or sockets; the verdict for the program to return
long bpf_sk_redirect_map(struct sk_buff *skb, struct bpf_map *map, u32 key, u64 flags): send a packet to a socket of a map; SK_PASS, or SK_DROP
long bpf_sock_map_update(struct bpf_sock_ops *skops, struct bpf_map *map, void *key, u64 flags): put a socket into a map
long bpf_xdp_adjust_meta(struct xdp_buff *xdp_md, int delta): move the start of a packet's metadata
long bpf_perf_event_read_value(struct bpf_map *map, u64 flags, struct bpf_perf_event_value *buf, u32 buf_size): read a counter, and how long it ran, from a map of perf events
long bpf_perf_prog_read_value(struct bpf_perf_event_data *ctx, struct bpf_perf_event_value *buf, u32 buf_size): read the counter of the perf event that runs this program, and how long it ran
long bpf_getsockopt(void *bpf_socket, int level, int optname, void *optval, int optlen): copy an option of a socket
long bpf_override_return(struct pt_regs *regs, u64 rc): have the probed function return a value without running
long bpf_sock_ops_cb_flags_set(struct bpf_sock_ops *bpf_sock, int argval): choose for what else of a connection to be called; the flags that could not be set, or a negative error
long bpf_msg_redirect_map(struct sk_msg_buff *msg, struct bpf_map *map, u32 key, u64 flags): send a message to a socket of a map; SK_PASS, or SK_DROP
long bpf_msg_apply_bytes(struct sk_msg_buff *msg, u32 bytes): let the verdict hold for so many bytes
long bpf_msg_cork_bytes(struct sk_msg_buff *msg, u32 bytes): wait until a message has so many bytes
long bpf_msg_pull_data(struct sk_msg_buff *msg, u32 start, u32 end, u64 flags): make bytes of a message directly readable
long bpf_bind(struct bpf_sock_addr *ctx, struct sockaddr *addr, int addr_len): bind a socket to an address before it connects
long bpf_xdp_adjust_tail(struct xdp_buff *xdp_md, int delta): move the end of a packet
long bpf_skb_get_xfrm_state(struct sk_buff *skb, u32 index, struct bpf_xfrm_state *xfrm_state, u32 size, u64 flags): copy a packet's IPsec state
long bpf_get_stack(void *ctx, void *buf, u32 size, u64 flags): copy the call stack; its bytes, or a negative error
long bpf_skb_load_bytes_relative(const void *skb, u32 offset, void *to, u32 len, u32 start_header): copy bytes from a packet, counted from one of its headers
long bpf_fib_lookup(void *ctx, struct bpf_fib_lookup *params, int plen, u32 flags): look up a route; 0, a reason not to forward (BPF_FIB_LKUP_RET_*), or a negative error
long bpf_sock_hash_update(struct bpf_sock_ops *skops, struct bpf_map *map, void *key, u64 flags): put a socket into a hash table
long bpf_msg_redirect_hash(struct sk_msg_buff *msg, struct bpf_map *map, void *key, u64 flags): send a message to a socket of a hash table; SK_PASS, or SK_DROP
long bpf_sk_redirect_hash(struct sk_buff *skb, struct bpf_map *map, void *key, u64 flags): send a packet to a socket of a hash table; SK_PASS, or SK_DROP
long bpf_lwt_push_encap(struct sk_buff *skb, u32 type, void *hdr, u32 len): put a header in front of a packet
long bpf_lwt_seg6_store_bytes(struct sk_buff *skb, u32 offset, const void *from, u32 len): write into a packet's segment routing header
long bpf_lwt_seg6_adjust_srh(struct sk_buff *skb, u32 offset, s32 delta): make the options of a packet's segment routing header longer or shorter
long bpf_lwt_seg6_action(struct sk_buff *skb, u32 action, void *param, u32 param_len): do a segment routing action with a packet
long bpf_rc_repeat(void *ctx): report that a remote control's key is held
long bpf_rc_keydown(void *ctx, u32 protocol, u64 scancode, u32 toggle): report that a remote control's key was pressed
u64 bpf_skb_cgroup_id(struct sk_buff *skb): ask for the cgroup of a packet's socket; its id, or 0
u64 bpf_get_current_cgroup_id(void): ask for the cgroup (v2) of the current thread; its id
void *bpf_get_local_storage(void *map, u64 flags): find the program's storage for its cgroup; its address
long bpf_sk_select_reuseport(struct sk_reuseport_md *reuse, struct bpf_map *map, void *key, u64 flags): choose the socket of a group that gets a packet
u64 bpf_skb_ancestor_cgroup_id(struct sk_buff *skb, int ancestor_level): ask for an ancestor of the cgroup of a packet's socket; its id, or 0
struct bpf_sock *bpf_sk_lookup_tcp(void *ctx, struct bpf_sock_tuple *tuple, u32 tuple_size, u64 netns, u64 flags): find a TCP socket by its addresses and ports; its address, to be released, or 0
struct bpf_sock *bpf_sk_lookup_udp(void *ctx, struct bpf_sock_tuple *tuple, u32 tuple_size, u64 netns, u64 flags): find a UDP socket by its addresses and ports; its address, to be released, or 0
long bpf_sk_release(void *sock): give back a socket that was looked up
long bpf_map_push_elem(struct bpf_map *map, const void *value, u64 flags): add a value to a queue, stack or Bloom filter
long bpf_map_pop_elem(struct bpf_map *map, void *value): take the next value out of a queue or stack
long bpf_map_peek_elem(struct bpf_map *map, void *value): copy the next value of a queue or stack, or ask whether a Bloom filter may have one
long bpf_msg_push_data(struct sk_msg_buff *msg, u32 start, u32 len, u64 flags): make room for bytes in a message
long bpf_msg_pop_data(struct sk_msg_buff *msg, u32 start, u32 len, u64 flags): remove bytes from a message
long bpf_rc_pointer_rel(void *ctx, s32 rel_x, s32 rel_y): report a pointer's movement
long bpf_spin_lock(struct bpf_spin_lock *lock): take the lock in a map's value; nothing
long bpf_spin_unlock(struct bpf_spin_lock *lock): release the lock in a map's value; nothing
struct bpf_sock *bpf_sk_fullsock(struct bpf_sock *sk): see a socket as a full one; its address, or 0 if it is none
struct bpf_tcp_sock *bpf_tcp_sock(struct bpf_sock *sk): see a socket as one of TCP; its struct bpf_tcp_sock, or 0
long bpf_skb_ecn_set_ce(struct sk_buff *skb): mark a packet as one that met congestion (ECN); 1 if it is marked, 0 if not
struct bpf_sock *bpf_get_listener_sock(struct bpf_sock *sk): find the listening socket that a socket belongs to; its address, or 0
struct bpf_sock *bpf_skc_lookup_tcp(void *ctx, struct bpf_sock_tuple *tuple, u32 tuple_size, u64 netns, u64 flags): find a TCP socket of any state by its addresses and ports; its address, to be released, or 0
long bpf_tcp_check_syncookie(void *sk, void *iph, u32 iph_len, struct tcphdr *th, u32 th_len): check the SYN cookie of a packet; 0 if it is right, or a negative error
long bpf_sysctl_get_name(struct bpf_sysctl *ctx, char *buf, size_t buf_len, u64 flags): copy the name of the sysctl that is accessed; its length, or a negative error
long bpf_sysctl_get_current_value(struct bpf_sysctl *ctx, char *buf, size_t buf_len): copy the value that the sysctl has; its length, or a negative error
long bpf_sysctl_get_new_value(struct bpf_sysctl *ctx, char *buf, size_t buf_len): copy the value that the sysctl is about to get; its length, or a negative error
long bpf_sysctl_set_new_value(struct bpf_sysctl *ctx, const char *buf, size_t buf_len): replace the value that the sysctl is about to get
long bpf_strtol(const char *buf, size_t buf_len, u64 flags, long *res): read a signed number from a text; how many characters it has, or a negative error
long bpf_strtoul(const char *buf, size_t buf_len, u64 flags, unsigned long *res): read an unsigned number from a text; how many characters it has, or a negative error
void *bpf_sk_storage_get(struct bpf_map *map, void *sk, void *value, u64 flags): find a socket's storage, or make it; its address, or 0
long bpf_sk_storage_delete(struct bpf_map *map, void *sk): remove a socket's storage
long bpf_send_signal(u32 sig): send a signal to the current process
s64 bpf_tcp_gen_syncookie(void *sk, void *iph, u32 iph_len, struct tcphdr *th, u32 th_len): make a SYN cookie; it in the lower 32 bits, the MSS in the next 16, or a negative error
long bpf_skb_output(void *ctx, struct bpf_map *map, u64 flags, void *data, u64 size): send bytes and the start of a packet to user space through a CPU's perf ring
long bpf_probe_read_user(void *dst, u32 size, const void *unsafe_ptr): copy bytes of the current process
long bpf_probe_read_kernel(void *dst, u32 size, const void *unsafe_ptr): copy bytes of the kernel from an address that may be bad
long bpf_probe_read_user_str(void *dst, u32 size, const void *unsafe_ptr): copy a string of the current process; bytes with the NUL, or a negative error
long bpf_probe_read_kernel_str(void *dst, u32 size, const void *unsafe_ptr): copy a string of the kernel from an address that may be bad; bytes with the NUL, or a negative error
long bpf_tcp_send_ack(void *tp, u32 rcv_nxt): send a TCP acknowledgement
long bpf_send_signal_thread(u32 sig): send a signal to the current thread
u64 bpf_jiffies64(void): read the kernel's count of timer ticks; the count
long bpf_read_branch_records(struct bpf_perf_event_data *ctx, void *buf, u32 size, u64 flags): copy the branches that the CPU recorded with the perf event; their bytes, or a negative error
long bpf_get_ns_current_pid_tgid(u64 dev, u64 ino, struct bpf_pidns_info *nsdata, u32 size): ask which numbers the current process and thread have in a pid namespace
long bpf_xdp_output(void *ctx, struct bpf_map *map, u64 flags, void *data, u64 size): send bytes and the start of a packet to user space through a CPU's perf ring
u64 bpf_get_netns_cookie(void *ctx): ask for the number of a network namespace; one that no other has
u64 bpf_get_current_ancestor_cgroup_id(int ancestor_level): ask for an ancestor of the current thread's cgroup; its id, or 0
long bpf_sk_assign(struct sk_buff *skb, void *sk, u64 flags): have a socket receive a packet
u64 bpf_ktime_get_boot_ns(void): read the clock CLOCK_BOOTTIME; nanoseconds since boot, with those in suspend
long bpf_seq_printf(struct seq_file *m, const char *fmt, u32 fmt_size, const void *data, u32 data_len): write formatted text into the file of an iterator
long bpf_seq_write(struct seq_file *m, const void *data, u32 len): write bytes into the file of an iterator
u64 bpf_sk_cgroup_id(void *sk): ask for the cgroup of a socket; its id, or 0
u64 bpf_sk_ancestor_cgroup_id(void *sk, int ancestor_level): ask for an ancestor of the cgroup of a socket; its id, or 0
long bpf_ringbuf_output(void *ringbuf, void *data, u64 size, u64 flags): copy bytes into a ring buffer
void *bpf_ringbuf_reserve(void *ringbuf, u64 size, u64 flags): reserve room in a ring buffer; its address, or 0 if there is none
void bpf_ringbuf_submit(void *data, u64 flags): hand reserved room of a ring buffer to user space
void bpf_ringbuf_discard(void *data, u64 flags): give back reserved room of a ring buffer
u64 bpf_ringbuf_query(void *ringbuf, u64 flags): ask about a ring buffer, such as how much of it is unread; the number
long bpf_csum_level(struct sk_buff *skb, u64 level): change, or ask, how many of a packet's checksums are known to be right; 0, the number, or a negative error
struct tcp6_sock *bpf_skc_to_tcp6_sock(void *sk): see a socket as a struct tcp6_sock; its address, or 0 if it is none
struct tcp_sock *bpf_skc_to_tcp_sock(void *sk): see a socket as a struct tcp_sock; its address, or 0 if it is none
struct tcp_timewait_sock *bpf_skc_to_tcp_timewait_sock(void *sk): see a socket as a struct tcp_timewait_sock; its address, or 0 if it is none
struct tcp_request_sock *bpf_skc_to_tcp_request_sock(void *sk): see a socket as a struct tcp_request_sock; its address, or 0 if it is none
struct udp6_sock *bpf_skc_to_udp6_sock(void *sk): see a socket as a struct udp6_sock; its address, or 0 if it is none
long bpf_get_task_stack(struct task_struct *task, void *buf, u32 size, u64 flags): copy a task's call stack; its bytes, or a negative error
long bpf_load_hdr_opt(struct bpf_sock_ops *skops, void *searchby_res, u32 len, u64 flags): copy an option of a TCP header; its bytes, or a negative error
long bpf_store_hdr_opt(struct bpf_sock_ops *skops, const void *from, u32 len, u64 flags): write an option into a TCP header
long bpf_reserve_hdr_opt(struct bpf_sock_ops *skops, u32 len, u64 flags): reserve room for options in a TCP header
void *bpf_inode_storage_get(struct bpf_map *map, void *inode, void *value, u64 flags): find an inode's storage, or make it; its address, or 0
int bpf_inode_storage_delete(struct bpf_map *map, void *inode): remove an inode's storage
long bpf_d_path(struct path *path, char *buf, u32 sz): write a file's path as text; its bytes with the NUL, or a negative error
long bpf_copy_from_user(void *dst, u32 size, const void *user_ptr): copy bytes of the current process, and wait until they are in memory
long bpf_snprintf_btf(char *str, u32 str_size, struct btf_ptr *ptr, u32 btf_ptr_size, u64 flags): write a value of the kernel as text, by its type; the text's bytes, or a negative error
long bpf_seq_printf_btf(struct seq_file *m, struct btf_ptr *ptr, u32 ptr_size, u64 flags): write a value of the kernel as text, by its type, into the file of an iterator
u64 bpf_skb_cgroup_classid(struct sk_buff *skb): ask for the net_cls class of a packet's socket; it, or 0
long bpf_redirect_neigh(u32 ifindex, struct bpf_redir_neigh *params, int plen, u64 flags): send the packet through another interface, to a neighbour that the kernel looks up; the verdict for the program to return
void *bpf_per_cpu_ptr(const void *percpu_ptr, u32 cpu): find a CPU's copy of a variable; its address, or 0 without such a CPU
void *bpf_this_cpu_ptr(const void *percpu_ptr): find this CPU's copy of a variable; its address
long bpf_redirect_peer(u32 ifindex, u64 flags): send the packet to an interface's peer in another network namespace; the verdict for the program to return
void *bpf_task_storage_get(struct bpf_map *map, struct task_struct *task, void *value, u64 flags): find a task's storage, or make it; its address, or 0
long bpf_task_storage_delete(struct bpf_map *map, struct task_struct *task): remove a task's storage
struct task_struct *bpf_get_current_task_btf(void): ask for the current thread's struct task_struct, with its type; its address
long bpf_bprm_opts_set(struct linux_binprm *bprm, u64 flags): set options of an exec
u64 bpf_ktime_get_coarse_ns(void): read the clock CLOCK_MONOTONIC_COARSE; nanoseconds since boot, as of the last tick
long bpf_ima_inode_hash(struct inode *inode, void *dst, u32 size): copy the hash that IMA keeps of an inode; the kind of hash, or a negative error
struct socket *bpf_sock_from_file(struct file *file): ask for the socket behind a file; its address, or 0
long bpf_check_mtu(void *ctx, u32 ifindex, u32 *mtu_len, s32 len_diff, u64 flags): check whether a packet fits an interface; 0, a reason (BPF_MTU_CHK_RET_*), or a negative error
long bpf_for_each_map_elem(struct bpf_map *map, void *callback_fn, void *callback_ctx, u64 flags): call a function with each element of a map; how many there were, or a negative error
long bpf_snprintf(char *str, u32 str_size, const char *fmt, u64 *data, u32 data_len): write formatted text; its bytes with the NUL, or a negative error
long bpf_sys_bpf(u32 cmd, void *attr, u32 attr_size): make the system call bpf(2); its result
long bpf_btf_find_by_name_kind(char *name, int name_sz, u32 kind, int flags): find a type by its name and kind; its number in the lower 32 bits, its module's descriptor in the upper, or a negative error
long bpf_sys_close(u32 fd): close a file descriptor
long bpf_timer_init(struct bpf_timer *timer, struct bpf_map *map, u64 flags): prepare the timer in a map's value
long bpf_timer_set_callback(struct bpf_timer *timer, void *callback_fn): set the function that a timer calls
long bpf_timer_start(struct bpf_timer *timer, u64 nsecs, u64 flags): start a timer
long bpf_timer_cancel(struct bpf_timer *timer): stop a timer; 1 if it was running, 0 if not, or a negative error
u64 bpf_get_func_ip(void *ctx): ask where the traced function is; its address, or 0
u64 bpf_get_attach_cookie(void *ctx): ask for the number that the program was attached with; it, or 0
long bpf_task_pt_regs(struct task_struct *task): find the registers that a task had in user space; the address of its struct pt_regs
long bpf_get_branch_snapshot(void *entries, u32 size, u64 flags): copy the branches that the CPU took last; their bytes, or a negative error
long bpf_trace_vprintk(const char *fmt, u32 fmt_size, const void *data, u32 data_len): write a line to the kernel's trace_pipe, with arguments from an array; the number of bytes, or a negative error
struct unix_sock *bpf_skc_to_unix_sock(void *sk): see a socket as a struct unix_sock; its address, or 0 if it is none
long bpf_kallsyms_lookup_name(const char *name, int name_sz, int flags, u64 *res): find the address of a symbol of the kernel
long bpf_find_vma(struct task_struct *task, u64 addr, void *callback_fn, void *callback_ctx, u64 flags): call a function with the mapping of a task that has an address
long bpf_loop(u32 nr_loops, void *callback_fn, void *callback_ctx, u64 flags): call a function again and again; how many times it ran, or a negative error
long bpf_strncmp(const char *s1, u32 s1_sz, const char *s2): compare two strings; 0 if they are equal, else which one is greater
long bpf_get_func_arg(void *ctx, u32 n, u64 *value): copy an argument of the traced function
long bpf_get_func_ret(void *ctx, u64 *value): copy the result of the traced function
long bpf_get_func_arg_cnt(void *ctx): ask how many arguments the traced function has; the number
int bpf_get_retval(void): ask what the operation is to return so far; that
int bpf_set_retval(int retval): set what the operation is to return
u64 bpf_xdp_get_buff_len(struct xdp_buff *xdp_md): ask how long a packet is with all its fragments; bytes
long bpf_xdp_load_bytes(struct xdp_buff *xdp_md, u32 offset, void *buf, u32 len): copy bytes from a packet
long bpf_xdp_store_bytes(struct xdp_buff *xdp_md, u32 offset, void *buf, u32 len): write bytes into a packet
long bpf_copy_from_user_task(void *dst, u32 size, const void *user_ptr, struct task_struct *tsk, u64 flags): copy bytes of another process, and wait until they are in memory
long bpf_skb_set_tstamp(struct sk_buff *skb, u64 tstamp, u32 tstamp_type): set a packet's time stamp
long bpf_ima_file_hash(struct file *file, void *dst, u32 size): copy the hash that IMA keeps of a file; the kind of hash, or a negative error
void *bpf_kptr_xchg(void *map_value, void *ptr): put a pointer of the kernel into a map's value; the one that was there, or 0
void *bpf_map_lookup_percpu_elem(struct bpf_map *map, const void *key, u32 cpu): find a CPU's value of a key in a map; its address, or 0 if there is none
struct mptcp_sock *bpf_skc_to_mptcp_sock(void *sk): see a socket as a struct mptcp_sock; its address, or 0 if it is none
long bpf_dynptr_from_mem(void *data, u32 size, u64 flags, struct bpf_dynptr *ptr): make a dynptr for a piece of memory
long bpf_ringbuf_reserve_dynptr(void *ringbuf, u32 size, u64 flags, struct bpf_dynptr *ptr): reserve room in a ring buffer, as a dynptr
void bpf_ringbuf_submit_dynptr(struct bpf_dynptr *ptr, u64 flags): hand the reserved room of a dynptr to user space
void bpf_ringbuf_discard_dynptr(struct bpf_dynptr *ptr, u64 flags): give back the reserved room of a dynptr
long bpf_dynptr_read(void *dst, u32 len, struct bpf_dynptr *src, u32 offset, u64 flags): copy bytes from a dynptr
long bpf_dynptr_write(struct bpf_dynptr *dst, u32 offset, void *src, u32 len, u64 flags): write bytes into a dynptr
void *bpf_dynptr_data(struct bpf_dynptr *ptr, u32 offset, u32 len): ask where a dynptr's bytes are; their address, or 0
s64 bpf_tcp_raw_gen_syncookie_ipv4(struct iphdr *iph, struct tcphdr *th, u32 th_len): make a SYN cookie for IPv4; it in the lower 32 bits, the MSS in the next 16, or a negative error
s64 bpf_tcp_raw_gen_syncookie_ipv6(struct ipv6hdr *iph, struct tcphdr *th, u32 th_len): make a SYN cookie for IPv6; it in the lower 32 bits, the MSS in the next 16, or a negative error
long bpf_tcp_raw_check_syncookie_ipv4(struct iphdr *iph, struct tcphdr *th): check the SYN cookie of an IPv4 packet; 0 if it is right, or a negative error
long bpf_tcp_raw_check_syncookie_ipv6(struct ipv6hdr *iph, struct tcphdr *th): check the SYN cookie of an IPv6 packet; 0 if it is right, or a negative error
u64 bpf_ktime_get_tai_ns(void): read the clock CLOCK_TAI; nanoseconds of atomic time since 1970
long bpf_user_ringbuf_drain(struct bpf_map *map, void *callback_fn, void *ctx, u64 flags): call a function with each record that user space sent; how many there were, or a negative error
void *bpf_cgrp_storage_get(struct bpf_map *map, struct cgroup *cgroup, void *value, u64 flags): find a cgroup's storage, or make it; its address, or 0
long bpf_cgrp_storage_delete(struct bpf_map *map, struct cgroup *cgroup): remove a cgroup's storage";

/// What is known of a helper function besides its name and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doc {
    /// Its prototype in C, as include/uapi/linux/bpf.h has it: `u64 bpf_ktime_get_ns(void)`.
    pub prototype: &'static str,
    /// What it does, in plain words that begin with a verb: `find the value of a key in a map`.
    pub does: &'static str,
    /// What is in r0 afterwards: `its address, or 0 if the map has no such key`.
    pub gives: &'static str,
}

impl Doc {
    /// Its parameters in order: `struct bpf_map *map`; `...` stands for any number of them.
    pub fn params(&self) -> impl Iterator<Item = &'static str> {
        let list = self.prototype.split_once('(').map_or("", |(_, list)| list).trim_end_matches(')');
        list.split(", ").filter(|param| !matches!(*param, "" | "void"))
    }
}

impl Helper {
    /// What it takes, does and gives.
    pub fn doc(self) -> Option<Doc> {
        let index = usize::try_from(self.0).ok()?.checked_sub(1)?;
        let (prototype, words) = TABLE.lines().nth(index)?.split_once(": ")?;
        let plain = if prototype.starts_with("void bpf_") { "nothing" } else { "0, or a negative error" };
        let (does, gives) = words.split_once("; ").unwrap_or((words, plain));
        Some(Doc { prototype, does, gives })
    }

    /// Its prototype in C: `u64 bpf_ktime_get_ns(void)`.
    pub fn prototype(self) -> Option<&'static str> {
        self.doc().map(|doc| doc.prototype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_helper_has_its_prototype_and_words() {
        assert_eq!(TABLE.lines().count(), Helper::ALL.len());
        for (helper, name, _) in Helper::ALL {
            let Doc { prototype, does, gives } = helper.doc().unwrap_or_else(|| panic!("{name}"));
            let (start, list) = prototype.split_once('(').expect(name);
            assert_eq!(start.rsplit([' ', '*']).next(), Some(*name), "{prototype}");
            assert!(list.ends_with(')') && helper.doc().unwrap().params().count() <= 5, "{prototype}");
            assert!(does.starts_with(|c: char| c.is_ascii_lowercase()) && !gives.is_empty(), "{name}: {does}; {gives}");
        }
        assert_eq!((Helper(0).doc(), Helper(212).doc(), Helper(u32::MAX).prototype()), (None, None, None));
    }

    #[test]
    fn a_prototype_is_taken_apart() {
        let params = |helper: Helper| helper.doc().unwrap().params().collect::<Vec<_>>();
        assert_eq!(params(Helper::KTIME_GET_NS), [""; 0]);
        assert_eq!(params(Helper::MAP_LOOKUP_ELEM), ["struct bpf_map *map", "const void *key"]);
        assert_eq!(params(Helper::TRACE_PRINTK), ["const char *fmt", "u32 fmt_size", "..."]);
        assert_eq!(Helper::MAP_DELETE_ELEM.doc().unwrap().gives, "0, or a negative error");
        assert_eq!(Helper::RINGBUF_SUBMIT.doc().unwrap().gives, "nothing");
    }
}
