/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Feature probes by trial, never by version. Each leaves nothing behind: link probes ask for a target
 * that cannot exist, and the errno tells how far the kernel followed (as cilium/ebpf does).
 */
#include "loader.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/bpf.h>
#include <string.h>
#include <unistd.h>

#define NO_INTERFACE        0x7fffffffu
#define NETFILTER_IPV4      2u
#define NETFILTER_DEFRAG    1u /* BPF_F_NETFILTER_IP_DEFRAG */

/* 0 when there, else errno. */
typedef int (*probe_function)(void);

/* return value; exit. Never attached anywhere. */
static int load_return(uint32_t type, uint32_t attach_type, uint32_t flags, int32_t value)
{
	LIBBPF_OPTS(bpf_prog_load_opts, options);
	const struct bpf_insn instructions[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = value },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd;

	options.expected_attach_type = attach_type;
	options.prog_flags = flags;
	fd = bpf_prog_load(type, "td_probe", "Dual BSD/GPL", instructions, 2, &options);
	return fd < 0 ? -errno : fd;
}

static int probe_load(uint32_t type, uint32_t attach_type, uint32_t flags, int32_t value)
{
	int fd = load_return(type, attach_type, flags, value);

	if (fd < 0)
		return -fd;
	close(fd);
	return 0;
}

static int probe_map(uint32_t type, uint32_t key, uint32_t value, uint32_t entries, uint32_t flags)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = flags);
	int fd = bpf_map_create(type, "td_probe", key, value, entries, &options);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int probe_btf(void)
{
	return access("/sys/kernel/btf/vmlinux", R_OK) == 0 ? 0 : errno;
}

static int probe_ringbuf(void)
{
	return probe_map(BPF_MAP_TYPE_RINGBUF, 0, 0, (uint32_t)sysconf(_SC_PAGESIZE), 0);
}

static int probe_array_mmap(void)
{
	return probe_map(BPF_MAP_TYPE_ARRAY, 4, 8, 1, BPF_F_MMAPABLE);
}

static int probe_reuseport_sockarray(void)
{
	return probe_map(BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 8, 1, 0);
}

static int probe_lpm_trie_batch(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, create, .map_flags = BPF_F_NO_PREALLOC);
	LIBBPF_OPTS(bpf_map_batch_opts, batch);
	uint32_t key[2] = { 32, 0 }, value = 0, count = 1;
	int fd, error = 0;

	fd = bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, "td_probe", sizeof(key), 4, 1, &create);
	if (fd < 0)
		return errno;
	if (bpf_map_update_batch(fd, key, &value, &count, &batch) != 0)
		error = errno;
	close(fd);
	return error;
}

static int probe_sk_reuseport(void)
{
	return probe_load(BPF_PROG_TYPE_SK_REUSEPORT, BPF_SK_REUSEPORT_SELECT, 0, SK_PASS);
}

static int probe_syscall_program(void)
{
	LIBBPF_OPTS(bpf_test_run_opts, run);
	int fd = load_return(BPF_PROG_TYPE_SYSCALL, 0, BPF_F_SLEEPABLE, 0);
	int error = 0;

	if (fd < 0)
		return -fd;
	if (bpf_prog_test_run_opts(fd, &run) != 0)
		error = errno;
	close(fd);
	return error;
}

static int probe_tcx_link(void)
{
	const struct tcx_anchor anchor = { 0 };
	int program = load_return(BPF_PROG_TYPE_SCHED_CLS, TD_ATTACH_TCX_INGRESS, 0, -1);
	int link;

	if (program < 0)
		return -program;
	link = link_create_tcx(program, NO_INTERFACE, TD_ATTACH_TCX_INGRESS, &anchor);
	close(program);
	if (link >= 0) {
		close(link);
		return 0;
	}
	/* No such interface: the kernel knows tcx links and went looking for it. */
	return link == -ENODEV ? 0 : -link;
}

static int probe_netfilter(uint32_t flags)
{
	/* The lowest priority is reserved: refused with ERANGE, after all else has been accepted. */
	const struct netfilter_hook hook = {
		.family = NETFILTER_IPV4,
		.priority = INT_MIN,
		.flags = flags,
	};
	int program = load_return(TD_PROG_TYPE_NETFILTER, TD_ATTACH_NETFILTER, 0, 1);
	int link;

	if (program < 0)
		return -program;
	link = link_create_netfilter(program, &hook);
	close(program);
	if (link >= 0) {
		close(link);
		return 0;
	}
	return link == -ERANGE ? 0 : -link;
}

static int probe_netfilter_link(void)
{
	return probe_netfilter(0);
}

static int probe_netfilter_defrag(void)
{
	return probe_netfilter(NETFILTER_DEFRAG);
}

/*
 * netfilterIsTaken(family, hook, priority): whether another BPF program has this place in the network namespace. The
 * kernel gives a place to one program, and lists links to CAP_SYS_ADMIN alone: so a program that accepts every
 * packet is attached there for a moment.
 */
EXPORTED(netfilter_is_taken)
{
	struct call call;
	struct netfilter_hook hook = { 0 };
	int program, link;

	if (!call_begin(env, info, 3, &call) || !argument_u32(&call, 0, "family", &hook.family) ||
	    !argument_u32(&call, 1, "hook", &hook.hook) ||
	    !argument_i32(&call, 2, "priority", &hook.priority))
		return NULL;
	program = load_return(TD_PROG_TYPE_NETFILTER, TD_ATTACH_NETFILTER, 0, 1);
	if (program < 0)
		return throw_errno(&call, -program, "load program", "td_probe", "bpf");
	link = link_create_netfilter(program, &hook);
	close(program);
	if (link == -EBUSY)
		return make_bool(env, true);
	if (link < 0)
		return throw_errno(&call, -link, "attach netfilter program", "td_probe", "bpf");
	close(link);
	return make_bool(env, false);
}

/* Programs may look into it since 5.4; before, only redirect by it. */
static int probe_devmap_lookup(void)
{
	LIBBPF_OPTS(bpf_prog_load_opts, options, .log_level = 0);
	struct bpf_insn instructions[] = {
		{ .code = BPF_ST | BPF_MEM | BPF_W, .dst_reg = BPF_REG_10, .off = -4 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_10 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = BPF_REG_2, .imm = -4 },
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_FD },
		{ 0 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_map_lookup_elem },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int map = bpf_map_create(BPF_MAP_TYPE_DEVMAP_HASH, "td_probe", 4, 4, 1, NULL);
	int program, error = 0;

	if (map < 0)
		return errno;
	instructions[3].imm = map;
	program = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "td_probe", "Dual BSD/GPL", instructions,
				sizeof(instructions) / sizeof(instructions[0]), &options);
	if (program < 0)
		error = errno;
	else
		close(program);
	close(map);
	return error;
}

/* Functions of the kernel that our programs call (kernel.h). */
static const char *const kernel_functions[] = {
	"bpf_dynptr_from_skb", "bpf_dynptr_slice",     "bpf_rdonly_cast",
	"bpf_rcu_read_lock",   "bpf_rcu_read_unlock",
};

static int probe_kernel_functions(void)
{
	struct btf *btf = btf__load_vmlinux_btf();
	size_t i;
	int error = 0;

	if (!btf)
		return errno;
	for (i = 0; i < sizeof(kernel_functions) / sizeof(kernel_functions[0]); i++)
		if (btf__find_by_name_kind(btf, kernel_functions[i], BTF_KIND_FUNC) < 0)
			error = ENOENT;
	btf__free(btf);
	return error;
}

static int probe_cgroup_bind(void)
{
	int program = load_return(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_BIND, 0, 1);
	int link;

	if (program < 0)
		return -program;
	link = link_create_cgroup(program, -1, BPF_CGROUP_INET4_BIND);
	close(program);
	if (link >= 0) {
		close(link);
		return 0;
	}
	return link == -EBADF ? 0 : -link;
}

static const struct {
	const char *name;
	probe_function probe;
} probes[] = {
	{ "btf", probe_btf },
	{ "ringbuf", probe_ringbuf },
	{ "array_mmap", probe_array_mmap },
	{ "lpm_trie_batch", probe_lpm_trie_batch },
	{ "reuseport_sockarray", probe_reuseport_sockarray },
	{ "sk_reuseport", probe_sk_reuseport },
	{ "syscall_program", probe_syscall_program },
	{ "tcx_link", probe_tcx_link },
	{ "netfilter_link", probe_netfilter_link },
	{ "netfilter_defrag", probe_netfilter_defrag },
	{ "devmap_lookup", probe_devmap_lookup },
	{ "kernel_functions", probe_kernel_functions },
	{ "cgroup_bind", probe_cgroup_bind },
};

#define PROBES (sizeof(probes) / sizeof(probes[0]))

/* featureNames(): names in the order of featureProbe's index */
EXPORTED(feature_names)
{
	struct call call;
	napi_value list;

	if (!call_begin(env, info, 0, &call) || napi_create_array(env, &list) != napi_ok)
		return NULL;
	for (uint32_t i = 0; i < PROBES; i++)
		napi_set_element(env, list, i, make_string(env, probes[i].name));
	return list;
}

/* featureProbe(index): throws what the kernel said when the feature is not there */
EXPORTED(feature_probe)
{
	struct call call;
	uint32_t index;
	int error;

	if (!call_begin(env, info, 1, &call) || !argument_u32(&call, 0, "index", &index))
		return NULL;
	if (index >= PROBES)
		return throw_range(&call, "no such feature");
	error = probes[index].probe();
	if (error != 0)
		return throw_errno(&call, error, "use feature", probes[index].name, "bpf");
	return NULL;
}
