/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Test object of the loader: a map and a program of each kind that Tandem uses, small enough that a
 * test can predict what they do.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

enum sample_kind {
	SAMPLE_NONE = 0,
	SAMPLE_PLAIN = 7,
	SAMPLE_NEGATIVE = -3,
};

struct inner {
	__u16 low;
	__u16 high;
};

struct sample {
	__u32 kind;
	union {
		__u32 word;
		struct inner halves;
	};
	__u8 name[12];
	struct inner pairs[3];
	__u32 flag : 1;
	__u32 level : 5;
	__s64 stamp;
	enum sample_kind last;
};

struct config {
	__u32 answer;
	__u32 limit;
};

const volatile struct config config = { .answer = 1 };
const volatile __u8 single = 5;
enum sample_kind last_kind = SAMPLE_PLAIN;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct sample);
} table SEC(".maps");

struct trie_key {
	__u32 bits;
	__u8 address[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct trie_key);
	__type(value, __u32);
} trie SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} shared SEC(".maps");

/* A map of the same shape, whose pin has another name. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} twin SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} listeners SEC(".maps");

/* ctx: what `compute` reads and writes. */
struct job {
	__u32 left;
	__u32 right;
	__u32 sum;
	__u32 answer;
};

SEC("syscall")
int compute(struct job *job)
{
	__u32 key = 0;
	__u64 *count;

	job->sum = job->left + job->right;
	job->answer = config.answer;
	count = bpf_map_lookup_elem(&shared, &key);
	if (count)
		__sync_fetch_and_add(count, 1);
	return job->left == 0 ? -22 : 0;
}

struct emission {
	__u32 count;
	__u32 is_large; /* records of 4096 bytes instead of 12 */
};

struct emitting {
	__u32 is_large;
	__u32 sent;
};

static long emit_one(__u32 i, struct emitting *emitting)
{
	if (emitting->is_large) {
		__u32 *large = bpf_ringbuf_reserve(&events, 4096, 0);

		if (!large)
			return 1;
		large[0] = i;
		large[1023] = ~i;
		bpf_ringbuf_submit(large, 0);
	} else {
		__u32 *small = bpf_ringbuf_reserve(&events, 12, 0);

		if (!small)
			return 1;
		small[0] = i;
		small[1] = ~i;
		small[2] = 0;
		if (i % 3 == 2)
			bpf_ringbuf_discard(small, 0);
		else
			bpf_ringbuf_submit(small, 0);
	}
	emitting->sent++;
	return 0;
}

/* Puts records into the ring until it is full; every third small one is discarded. */
SEC("syscall")
int emit(struct emission *emission)
{
	struct emitting emitting = { .is_large = emission->is_large };

	bpf_loop(emission->count, emit_one, &emitting, 0);
	return emitting.sent;
}

/* Reads the kernel through CO-RE: the object knows one field, the loader finds where it is. */
struct task_struct {
	int tgid;
	int pid;
} __attribute__((preserve_access_index));

struct identity {
	__u32 tgid;
	__u32 tgid_offset;
	__u32 has_nonsense;
};

struct task_struct___nonsense {
	int no_such_field;
} __attribute__((preserve_access_index));

SEC("syscall")
int identify(struct identity *identity)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	identity->tgid = BPF_CORE_READ(task, tgid);
	identity->tgid_offset = bpf_core_field_offset(((struct task_struct *)0)->tgid);
	identity->has_nonsense =
		bpf_core_field_exists(((struct task_struct___nonsense *)0)->no_such_field);
	return 0;
}

/* TCX_NEXT; counts packets of this CPU and marks the first byte, so that a test run shows it. */
SEC("tcx/ingress")
int count_packet(struct __sk_buff *skb)
{
	__u32 key = 0;
	__u32 *count = bpf_map_lookup_elem(&counters, &key);
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;

	if (count)
		(*count)++;
	if (data + 1 <= end)
		*(__u8 *)data = 0x42;
	skb->mark = skb->mark + 1;
	return -1;
}

SEC("tcx/egress")
int other_packet(struct __sk_buff *skb)
{
	return -1;
}

SEC("tc")
int slot_target(struct __sk_buff *skb)
{
	return 2;
}

SEC("tc")
int slot_root(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &slots, 1);
	return 0;
}

/* struct bpf_nf_ctx is empty to us: accept everything. */
SEC("netfilter")
int accept_all(void *ctx)
{
	return 1;
}

SEC("cgroup/bind4")
int allow_bind4(struct bpf_sock_addr *ctx)
{
	/* Port 47653 is the one that the test may not bind. */
	return ctx->user_port == __builtin_bswap16(47653) ? 0 : 1;
}

SEC("cgroup/bind6")
int allow_bind6(struct bpf_sock_addr *ctx)
{
	return 1;
}

SEC("sk_reuseport")
int select_second(struct sk_reuseport_md *ctx)
{
	__u32 key = 1;

	if (bpf_sk_select_reuseport(ctx, &listeners, &key, 0) == 0)
		return SK_PASS;
	return SK_DROP;
}

/* Keeps the types in BTF. */
SEC("syscall")
int store(struct sample *sample)
{
	__u32 key = sample->kind;
	struct sample copy = { .kind = key, .word = sample->word, .last = last_kind };

	return bpf_map_update_elem(&table, &key, &copy, BPF_ANY);
}

char _license[] SEC("license") = "Dual BSD/GPL";
