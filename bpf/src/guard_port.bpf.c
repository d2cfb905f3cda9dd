/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * guard_port4, guard_port6: cgroup bind programs on the root cgroup. In the node's network namespace
 * port P belongs to sockets of the owner's uid; another process there could join the group or replace
 * its selector (safety rule 11). The uid is the socket's, not the task's: the agent, root, gives its
 * sockets to that uid before it binds them.
 */
#ifndef TANDEM_GUARD_PORT_H
#define TANDEM_GUARD_PORT_H

#include <tandem/counters.h>

#define TD_BIND_REFUSE 0
#define TD_BIND_ALLOW  1

static __always_inline int guard_port(struct bpf_sock_addr *address)
{
	struct bpf_sock *socket = address->sk;
	struct sock *kernel_socket;

	if (address->user_port != td_config.port_be)
		return TD_BIND_ALLOW;
	if (bpf_get_netns_cookie(address) != td_config.netns_cookie)
		return TD_BIND_ALLOW;
	if (socket) {
		kernel_socket = bpf_rdonly_cast(socket, bpf_core_type_id_kernel(struct sock));
		if (kernel_socket->sk_uid.val == td_config.owner_uid)
			return TD_BIND_ALLOW;
	}
	count(TD_COUNT_BIND_REFUSED);
	return TD_BIND_REFUSE;
}

SEC("cgroup/bind4")
int guard_port4(struct bpf_sock_addr *address)
{
	return guard_port(address);
}

SEC("cgroup/bind6")
int guard_port6(struct bpf_sock_addr *address)
{
	return guard_port(address);
}

#endif /* TANDEM_GUARD_PORT_H */
