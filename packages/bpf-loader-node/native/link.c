/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Links: a program at its hook, alive as long as the fd or a pin. tcx and netfilter links go through
 * bpf(2) directly, since libbpf 1.1 has neither; the layouts are the kernel's (uapi/linux/bpf.h 6.6).
 */
#include "loader.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TCX_PROGRAMS_MAX 64u /* BPF_MPROG_MAX */

#ifndef SO_DETACH_REUSEPORT_BPF
#define SO_DETACH_REUSEPORT_BPF 68
#endif

/* union bpf_attr, the members of BPF_LINK_CREATE that are newer than the headers. */
struct link_create_attributes {
	uint32_t program_fd;
	uint32_t target; /* fd or ifindex */
	uint32_t attach_type;
	uint32_t flags;
	union {
		struct netfilter_hook netfilter;
		struct {
			uint32_t relative;
			uint32_t reserved;
			uint64_t revision;
		} tcx;
	};
};

_Static_assert(offsetof(struct link_create_attributes, tcx.revision) == 24, "kernel layout");

/* union bpf_attr, the members of BPF_PROG_QUERY. */
struct query_attributes {
	uint32_t target;
	uint32_t attach_type;
	uint32_t query_flags;
	uint32_t attach_flags;
	uint64_t program_ids;
	uint32_t count;
	uint32_t reserved;
	uint64_t program_attach_flags;
	uint64_t link_ids;
	uint64_t link_attach_flags;
	uint64_t revision;
};

/* struct bpf_link_info with the kinds that we make. */
struct link_facts {
	uint32_t type;
	uint32_t id;
	uint32_t program_id;
	uint32_t reserved;
	union {
		struct {
			uint64_t cgroup_id;
			uint32_t attach_type;
		} cgroup;
		struct {
			uint32_t ifindex;
			uint32_t attach_type;
		} tcx;
		struct netfilter_hook netfilter;
		uint8_t other[240]; /* a kernel with more than this writes no more than we ask for */
	};
};

static int link_create(const struct link_create_attributes *attributes)
{
	long fd = syscall(__NR_bpf, BPF_LINK_CREATE, attributes, sizeof(*attributes));

	return fd < 0 ? -errno : (int)fd;
}

int link_create_netfilter(int program_fd, const struct netfilter_hook *hook)
{
	struct link_create_attributes attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.program_fd = (uint32_t)program_fd;
	attributes.attach_type = TD_ATTACH_NETFILTER;
	attributes.netfilter = *hook;
	return link_create(&attributes);
}

int link_create_tcx(int program_fd, uint32_t ifindex, uint32_t attach_type,
		    const struct tcx_anchor *anchor)
{
	struct link_create_attributes attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.program_fd = (uint32_t)program_fd;
	attributes.target = ifindex;
	attributes.attach_type = attach_type;
	attributes.flags = anchor->flags;
	attributes.tcx.relative = anchor->relative;
	attributes.tcx.revision = anchor->revision;
	return link_create(&attributes);
}

int link_create_cgroup(int program_fd, int cgroup_fd, uint32_t attach_type)
{
	struct link_create_attributes attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.program_fd = (uint32_t)program_fd;
	attributes.target = (uint32_t)cgroup_fd;
	attributes.attach_type = attach_type;
	return link_create(&attributes);
}

int link_tcx_place(int fd, struct tcx_place *place)
{
	struct link_facts facts;
	uint32_t length = sizeof(facts);

	memset(&facts, 0, sizeof(facts));
	if (bpf_obj_get_info_by_fd(fd, &facts, &length) != 0)
		return -errno;
	*place = (struct tcx_place){ .program_id = facts.program_id };
	if (facts.type == TD_LINK_TYPE_TCX) {
		place->ifindex = facts.tcx.ifindex;
		place->attach_type = facts.tcx.attach_type;
	}
	return 0;
}

static napi_value adopt_link(struct call *call, int fd, const char *action, const char *target)
{
	if (fd < 0)
		return throw_errno(call, -fd, action, target, "BPF_LINK_CREATE");
	return handle_adopt_fd(call, HANDLE_LINK, fd, target);
}

/* linkAttachTcx(program, ifindex, attachType, flags, relative): handle; relative is an fd or an id */
EXPORTED(link_attach_tcx)
{
	struct call call;
	struct handle *program = handle_begin(env, info, 5, &call, HANDLE_PROGRAM);
	struct tcx_anchor anchor = { 0 };
	uint32_t ifindex, attach_type;
	char target[NAME_BYTES];

	if (program == NULL || !argument_u32(&call, 1, "ifindex", &ifindex) ||
	    !argument_u32(&call, 2, "attachType", &attach_type) ||
	    !argument_u32(&call, 3, "flags", &anchor.flags) ||
	    !argument_u32(&call, 4, "relative", &anchor.relative))
		return NULL;
	if (attach_type != TD_ATTACH_TCX_INGRESS && attach_type != TD_ATTACH_TCX_EGRESS)
		return throw_range(&call, "attachType must be that of tcx");
	snprintf(target, sizeof(target), "%.32s at interface %u", program->name, ifindex);
	return adopt_link(&call, link_create_tcx(program->fd, ifindex, attach_type, &anchor),
			  "attach tcx program", target);
}

/* linkAttachNetfilter(program, family, hook, priority, flags): handle */
EXPORTED(link_attach_netfilter)
{
	struct call call;
	struct handle *program = handle_begin(env, info, 5, &call, HANDLE_PROGRAM);
	struct netfilter_hook hook = { 0 };
	char target[NAME_BYTES];

	if (program == NULL || !argument_u32(&call, 1, "family", &hook.family) ||
	    !argument_u32(&call, 2, "hook", &hook.hook) ||
	    !argument_i32(&call, 3, "priority", &hook.priority) ||
	    !argument_u32(&call, 4, "flags", &hook.flags))
		return NULL;
	snprintf(target, sizeof(target), "%.20s at pf %u hook %u priority %d", program->name,
		 hook.family, hook.hook, hook.priority);
	return adopt_link(&call, link_create_netfilter(program->fd, &hook),
			  "attach netfilter program", target);
}

/* linkAttachCgroup(program, cgroupPath, attachType): handle */
EXPORTED(link_attach_cgroup)
{
	struct call call;
	struct handle *program = handle_begin(env, info, 3, &call, HANDLE_PROGRAM);
	char path[PATH_BYTES], target[NAME_BYTES];
	uint32_t attach_type;
	int directory, fd;

	if (program == NULL || !argument_string(&call, 1, "path", path, sizeof(path)) ||
	    !argument_u32(&call, 2, "attachType", &attach_type))
		return NULL;
	directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return throw_errno(&call, errno, "open cgroup", path, "open");
	fd = link_create_cgroup(program->fd, directory, attach_type);
	close(directory);
	snprintf(target, sizeof(target), "%.31s at %.24s", program->name, path);
	return adopt_link(&call, fd, "attach cgroup program", target);
}

/* linkUpdate(link, program) */
EXPORTED(link_update)
{
	struct call call;
	struct handle *link = handle_begin(env, info, 2, &call, HANDLE_LINK);
	struct handle *program;

	if (link == NULL)
		return NULL;
	program = argument_handle(&call, 1, HANDLE_PROGRAM);
	if (program == NULL)
		return NULL;
	if (bpf_link_update(link->fd, program->fd, NULL) != 0)
		return throw_errno(&call, errno, "update link", link->name, "BPF_LINK_UPDATE");
	return NULL;
}

/* linkDetach(link) */
EXPORTED(link_detach)
{
	struct call call;
	struct handle *link = handle_begin(env, info, 1, &call, HANDLE_LINK);

	if (link == NULL)
		return NULL;
	if (bpf_link_detach(link->fd) != 0)
		return throw_errno(&call, errno, "detach link", link->name, "BPF_LINK_DETACH");
	return NULL;
}

/* linkInfo(link) */
EXPORTED(link_info)
{
	struct call call;
	struct handle *link = handle_begin(env, info, 1, &call, HANDLE_LINK);
	struct link_facts facts;
	uint32_t length = sizeof(facts);
	napi_value result;

	if (link == NULL)
		return NULL;
	memset(&facts, 0, sizeof(facts));
	if (bpf_obj_get_info_by_fd(link->fd, &facts, &length) != 0)
		return throw_errno(&call, errno, "read facts of link", link->name,
				   "BPF_OBJ_GET_INFO_BY_FD");
	napi_create_object(env, &result);
	set_u32(env, result, "type", facts.type);
	set_u32(env, result, "id", facts.id);
	set_u32(env, result, "programId", facts.program_id);
	switch (facts.type) {
	case TD_LINK_TYPE_TCX:
		set_u32(env, result, "ifindex", facts.tcx.ifindex);
		set_u32(env, result, "attachType", facts.tcx.attach_type);
		break;
	case TD_LINK_TYPE_NETFILTER:
		set_u32(env, result, "family", facts.netfilter.family);
		set_u32(env, result, "hook", facts.netfilter.hook);
		set_i32(env, result, "priority", facts.netfilter.priority);
		set_u32(env, result, "flags", facts.netfilter.flags);
		break;
	case TD_LINK_TYPE_CGROUP:
		set_u64(env, result, "cgroupId", facts.cgroup.cgroup_id);
		set_u32(env, result, "attachType", facts.cgroup.attach_type);
		break;
	default:
		break;
	}
	return result;
}

/* tcxQuery(ifindex, attachType): {revision, programs: [{programId, linkId}]} in order of execution */
EXPORTED(tcx_query)
{
	struct call call;
	uint32_t programs[TCX_PROGRAMS_MAX] = { 0 }, links[TCX_PROGRAMS_MAX] = { 0 };
	struct query_attributes query = {
		.program_ids = (uint64_t)(uintptr_t)programs,
		.link_ids = (uint64_t)(uintptr_t)links,
		.count = TCX_PROGRAMS_MAX,
	};
	napi_value result, list;
	char name[32];

	if (!call_begin(env, info, 2, &call) || !argument_u32(&call, 0, "ifindex", &query.target) ||
	    !argument_u32(&call, 1, "attachType", &query.attach_type))
		return NULL;
	if (query.attach_type != TD_ATTACH_TCX_INGRESS && query.attach_type != TD_ATTACH_TCX_EGRESS)
		return throw_range(&call, "attachType must be that of tcx");
	snprintf(name, sizeof(name), "interface %u", query.target);
	if (syscall(__NR_bpf, BPF_PROG_QUERY, &query, sizeof(query)) != 0)
		return throw_errno(&call, errno, "list tcx programs of", name, "BPF_PROG_QUERY");
	napi_create_object(env, &result);
	napi_create_array(env, &list);
	for (uint32_t i = 0; i < query.count && i < TCX_PROGRAMS_MAX; i++) {
		napi_value entry;

		napi_create_object(env, &entry);
		set_u32(env, entry, "programId", programs[i]);
		set_u32(env, entry, "linkId", links[i]);
		napi_set_element(env, list, i, entry);
	}
	set_u64(env, result, "revision", query.revision);
	napi_set_named_property(env, result, "programs", list);
	return result;
}

/* reuseportAttach(program, socketFd) */
EXPORTED(reuseport_attach)
{
	struct call call;
	struct handle *program = handle_begin(env, info, 2, &call, HANDLE_PROGRAM);
	int32_t fd;

	if (program == NULL || !argument_i32(&call, 1, "socketFd", &fd))
		return NULL;
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, &program->fd,
		       sizeof(program->fd)) != 0)
		return throw_errno(&call, errno, "attach to a reuseport group", program->name,
				   "SO_ATTACH_REUSEPORT_EBPF");
	return NULL;
}

/* reuseportDetach(socketFd) */
EXPORTED(reuseport_detach)
{
	struct call call;
	int32_t fd;
	int unused = 0;

	if (!call_begin(env, info, 1, &call) || !argument_i32(&call, 0, "socketFd", &fd))
		return NULL;
	if (setsockopt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &unused, sizeof(unused)) != 0)
		return throw_errno(&call, errno, "detach from a reuseport group", "the socket",
				   "SO_DETACH_REUSEPORT_BPF");
	return NULL;
}
