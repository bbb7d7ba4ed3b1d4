/* Reads events of getppid(2) with libbpf's perf_buffer, as `beside read` does with bpfkit: ring PAGES.
 * Prints a line when it is attached; on end of its input, how many events it had, how many were lost, and the nanoseconds that its
 * thread ran.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static unsigned long long events, lost;

static long long now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void on_event(void *ctx, int cpu, void *data, __u32 size)
{
	events++;
}

static void on_lost(void *ctx, int cpu, __u64 count)
{
	lost += count;
}

/* The number by which perf knows the tracepoint. */
static int tracepoint(void)
{
	char text[16] = "";
	int fd = open("/sys/kernel/tracing/events/syscalls/sys_enter_getppid/id", O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
		return -1;
	close(fd);
	return atoi(text);
}

int main(int argc, char **argv)
{
	int map = bpf_map_create(BPF_MAP_TYPE_PERF_EVENT_ARRAY, "events", 4, 4, libbpf_num_possible_cpus(), NULL);
	struct bpf_insn program[] = {
		{ BPF_ALU64 | BPF_MOV | BPF_X, 6, 1 },
		{ BPF_ST | BPF_MEM | BPF_DW, 10, 0, -48 },
		{ BPF_ST | BPF_MEM | BPF_DW, 10, 0, -40 },
		{ BPF_ST | BPF_MEM | BPF_DW, 10, 0, -32 },
		{ BPF_ST | BPF_MEM | BPF_DW, 10, 0, -24 },
		{ BPF_ST | BPF_MEM | BPF_DW, 10, 0, -16 },
		{ BPF_ST | BPF_MEM | BPF_DW, 10, 0, -8 },
		{ BPF_ALU64 | BPF_MOV | BPF_X, 1, 6 },
		{ BPF_LD | BPF_IMM | BPF_DW, 2, BPF_PSEUDO_MAP_FD, 0, map },
		{ 0 },
		{ BPF_ALU | BPF_MOV | BPF_K, 3, 0, 0, -1 },
		{ BPF_ALU64 | BPF_MOV | BPF_X, 4, 10 },
		{ BPF_ALU64 | BPF_ADD | BPF_K, 4, 0, 0, -48 },
		{ BPF_ALU64 | BPF_MOV | BPF_K, 5, 0, 0, 48 },
		{ BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_perf_event_output },
		{ BPF_ALU64 | BPF_MOV | BPF_K, 0 },
		{ BPF_JMP | BPF_EXIT },
	};
	int prog = bpf_prog_load(BPF_PROG_TYPE_TRACEPOINT, "getppid", "GPL", program, sizeof program / sizeof *program, NULL);
	struct perf_buffer *rings = perf_buffer__new(map, argc > 1 ? atoi(argv[1]) : 64, on_event, on_lost, NULL, NULL);
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT, .size = sizeof attr, .config = tracepoint(), .sample_period = 1, .wakeup_events = 1,
	};
	int event = syscall(SYS_perf_event_open, &attr, -1, 0, -1, 0);
	struct pollfd input = { .fd = 0, .events = POLLIN };

	if (map < 0 || prog < 0 || !rings || event < 0 || ioctl(event, PERF_EVENT_IOC_SET_BPF, prog))
		return perror("ring"), 1;
	ioctl(event, PERF_EVENT_IOC_ENABLE, 0);
	printf("ready\n");
	fflush(stdout);
	/* The input is looked at when there is nothing to read, so that it costs nothing while there is. */
	while (perf_buffer__poll(rings, 100) > 0 || !poll(&input, 1, 0))
		;
	perf_buffer__consume(rings);
	printf("%llu %llu %lld\n", events, lost, now(CLOCK_THREAD_CPUTIME_ID));
	return 0;
}
