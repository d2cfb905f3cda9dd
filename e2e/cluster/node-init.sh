#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Copyright The Tandem Authors
#
# PID 1 of a node, in fresh namespaces: mounts what a booted machine has of its own, then starts containerd, kubelet
# and kube-proxy and waits for what ends. Its environment (node.ts writes it): NODE, DIRECTORY, LOGS, BINARIES.
set -eu

hostname "$NODE"
mount --make-rprivate /
mount -t proc proc /proc

# Read before /sys is mounted anew: the hierarchies of cgroup v1, by the names of their mount points.
hierarchies=$(awk '/ - cgroup /{n = split($5, path, "/"); print path[n]}' /proc/self/mountinfo)
mount -t sysfs sysfs /sys
if [ -n "$hierarchies" ]; then
	mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
	for hierarchy in $hierarchies; do
		mkdir -p "/sys/fs/cgroup/$hierarchy"
		if [ "$hierarchy" = systemd ]; then options=none,name=systemd; else options=$hierarchy; fi
		mount -t cgroup -o "$options" cgroup "/sys/fs/cgroup/$hierarchy"
	done
	mkdir -p /sys/fs/cgroup/unified
	mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified || true
	# As systemd's system.slice: however many processes containerd starts, kubepods has its share of the CPUs beside them.
	for hierarchy in $hierarchies; do
		system=/sys/fs/cgroup/$hierarchy/system
		mkdir -p "$system"
		for file in cpuset.cpus cpuset.mems; do
			if [ -e "$system/$file" ]; then cat "/sys/fs/cgroup/$hierarchy/$file" >"$system/$file"; fi
		done
		echo $$ >"$system/cgroup.procs"
	done
else
	# cgroup v2 alone: controllers can be passed on only by a cgroup that has no process in it.
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mkdir -p /sys/fs/cgroup/init
	echo $$ >/sys/fs/cgroup/init/cgroup.procs
	for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
		echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || true
	done
fi
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || true
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/netns

# Directories of its own, where the machine's would be shared by all nodes: "host path" in volumes.list.
while read -r path directory; do
	mkdir -p "$DIRECTORY/$directory"
	mount --bind "$DIRECTORY/$directory" "$path"
done <"$DIRECTORY/volumes.list"
mount --make-rshared /

# What leaves the cluster has the node's address.
iptables -w -t nat -A POSTROUTING -s "$CLUSTER_CIDR" ! -d "$CLUSTER_CIDR" -o eth0 -j MASQUERADE
if [ -n "${CLUSTER_CIDR6:-}" ]; then
	ip6tables -w -t nat -A POSTROUTING -s "$CLUSTER_CIDR6" ! -d "$CLUSTER_CIDR6" -o eth0 -j MASQUERADE
fi

setsid containerd -c "$DIRECTORY/etc/containerd.toml" >>"$LOGS/$NODE-containerd.log" 2>&1 &
for _ in $(seq 300); do
	ctr -a /run/containerd/containerd.sock version >/dev/null 2>&1 && break
	sleep 0.1
done
# What systemd or a DaemonSet would do: kubelet ends when containerd is not ready, flanneld when the API server is away.
keep() { # LOG COMMAND...
	while :; do
		setsid "${@:2}" || true
		sleep 1
	done >>"$1" 2>&1
}
keep "$LOGS/$NODE-kubelet.log" "$BINARIES/kubelet" --config="$DIRECTORY/etc/kubelet.yaml" --kubeconfig="$KUBECONFIG" \
	--hostname-override="$NODE" --node-ip="$NODE_ADDRESS" --v=2 &
keep "$LOGS/$NODE-kube-proxy.log" "$BINARIES/kube-proxy" --config="$DIRECTORY/etc/kube-proxy.yaml" &
if [ -n "${FLANNELD:-}" ]; then
	keep "$LOGS/$NODE-flannel.log" env NODE_NAME="$NODE" "$FLANNELD" --kube-subnet-mgr \
		--kubeconfig-file="$FLANNEL_KUBECONFIG" --net-config-path="$DIRECTORY/etc/flannel.json" --iface=eth0 --ip-masq &
fi
while :; do wait -n 2>/dev/null || sleep 1; done
