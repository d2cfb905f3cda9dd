#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright The Tandem Authors
#
# Process 1 of a node, in fresh namespaces: mounts, then containerd, kubelet and kube-proxy. Arguments: the
# node's name, its directory, the directory of images. It ends when it is killed.
set -uo pipefail
name=$1
directory=$2
images=$3

hostname "$name"
mount --make-rprivate /
mount -t proc proc /proc
# The hierarchies of version 1 by their names, as this cgroup namespace sees them; sysfs of this network namespace.
hierarchies=$(awk '/ - cgroup / { n = split($5, path, "/"); print path[n] }' /proc/self/mountinfo)
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
for each in $hierarchies; do
	mkdir -p "/sys/fs/cgroup/$each"
	option=$each
	[ "$each" = systemd ] && option=none,name=systemd
	mount -t cgroup -o "$option" cgroup "/sys/fs/cgroup/$each"
done
mkdir -p /sys/fs/cgroup/unified
mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/netns
# Each node has its own of what a machine has once.
for path in var/lib/kubelet var/lib/containerd var/lib/cni var/lib/tandem var/log/pods var/log/containers opt/cni/bin; do
	mkdir -p "$directory/root/$path" "/$path"
	mount --bind "$directory/root/$path" "/$path"
done
mkdir -p /etc/cni/net.d
mount --bind "$directory/etc/cni" /etc/cni/net.d
cp /usr/lib/cni/* /opt/cni/bin/
mount --make-rshared /

pods=$(cat "$directory/etc/pod-cidr")
iptables -w -t nat -C POSTROUTING -s "$pods" ! -d "$pods" -o eth0 -j MASQUERADE 2>/dev/null ||
	iptables -w -t nat -A POSTROUTING -s "$pods" ! -d "$pods" -o eth0 -j MASQUERADE

socket=/run/containerd/containerd.sock
containerd -c "$directory/etc/containerd.toml" >"$directory/containerd.log" 2>&1 &
for _ in $(seq 100); do
	ctr -a "$socket" version >/dev/null 2>&1 && break
	sleep 0.1
done
for image in "$images"/*.tar; do
	ctr -a "$socket" -n k8s.io images import "$image" || exit 1
done

mapfile -t arguments <"$directory/etc/kubelet-arguments"
"$KUBELET" "${arguments[@]}" >"$directory/kubelet.log" 2>&1 &
"$KUBE_PROXY" --config="$directory/etc/proxy.yaml" >"$directory/kube-proxy.log" 2>&1 &
# The parent of what containers leave behind.
while :; do
	wait -n 2>/dev/null || sleep 1
done
