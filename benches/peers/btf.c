/* Opens a kernel's types with libbpf and finds members, as `bpfkit-benches` does with bpfkit-btf: btf FILE ROUNDS PATH...
 * Prints the thread's nanoseconds for parsing and for finding, a round each line, and how many of the members were found.
 */
#include <bpf/btf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static const struct btf_type *resolve(const struct btf *btf, __u32 id)
{
	const struct btf_type *type = btf__type_by_id(btf, id);

	while (type && (btf_is_mod(type) || btf_is_typedef(type)))
		type = btf__type_by_id(btf, type->type);
	return type;
}

/* The bits from the start of a structure to a member, also of its anonymous parts; -1 if there is none. */
static long member(const struct btf *btf, const struct btf_type *holder, const char *name, size_t len, __u32 *id)
{
	const struct btf_member *members = btf_members(holder);

	for (int i = 0; i < btf_vlen(holder); i++) {
		const char *text = btf__name_by_offset(btf, members[i].name_off);

		if (strlen(text) == len && !memcmp(text, name, len)) {
			*id = members[i].type;
			return btf_member_bit_offset(holder, i);
		}
		if (!*text) {
			const struct btf_type *inner = resolve(btf, members[i].type);
			long within = inner && btf_is_composite(inner) ? member(btf, inner, name, len, id) : -1;

			if (within >= 0)
				return btf_member_bit_offset(holder, i) + within;
		}
	}
	return -1;
}

/* The bytes from the start of the structure that a path begins with; -1 if there is no such member. */
static long find(const struct btf *btf, const char *path)
{
	char root[64];
	size_t len = strcspn(path, ".");
	long bits = 0;
	__s32 id;

	snprintf(root, sizeof root, "%.*s", (int)len, path);
	id = btf__find_by_name_kind(btf, root, BTF_KIND_STRUCT);
	if (id < 0)
		return -1;
	for (path += len; *path == '.'; path += len) {
		const struct btf_type *holder = resolve(btf, id);
		__u32 next;
		long more;

		path++;
		len = strcspn(path, ".");
		if (!holder || !btf_is_composite(holder))
			return -1;
		more = member(btf, holder, path, len, &next);
		if (more < 0)
			return -1;
		bits += more;
		id = next;
	}
	return bits / 8;
}

int main(int argc, char **argv)
{
	for (int round = 0; argc > 2 && round < atoi(argv[2]); round++) {
		long long start = now(), parsed, found;
		struct btf *btf = btf__parse(argv[1], NULL);
		int count = 0;

		if (!btf)
			return perror(argv[1]), 1;
		parsed = now();
		for (int i = 3; i < argc; i++)
			count += find(btf, argv[i]) >= 0;
		found = now();
		printf("%lld %lld %d\n", parsed - start, found - parsed, count);
		btf__free(btf);
	}
	return 0;
}
