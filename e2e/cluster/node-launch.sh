#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright The Tandem Authors
#
# Called with the node's network namespace, its cgroup's name and the command that becomes PID 1. Joins the node's
# cgroups and namespaces; killing this process, or PID 1, ends every process of the node.
set -eu
netns=$1 cgroup=$2
shift 2
for procs in /sys/fs/cgroup/"$cgroup"/cgroup.procs /sys/fs/cgroup/*/"$cgroup"/cgroup.procs; do
	if [ -e "$procs" ]; then echo $$ >"$procs"; fi
done
exec nsenter --net="/run/netns/$netns" \
	unshare --mount --uts --ipc --cgroup --pid --fork --kill-child "$@"
