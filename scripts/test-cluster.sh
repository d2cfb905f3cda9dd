#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright The Tandem Authors
#
# Called by ./run test --cluster: the bed's own promises, then the demo on each form of CNI and kube-proxy, and on
# flannel who it is that a pod is reached by. Each step that does not hold fails it. Clusters have names of their own
# and are gone afterwards. --short: the chart's tests and one demo.
set -euo pipefail

tests='e2e/cluster/*.test.ts'
forms=('bridge iptables' 'ptp nftables' 'flannel iptables')
if [ "${1:-}" = --short ]; then
	tests=e2e/cluster/chart.test.ts
	forms=('bridge iptables')
fi

tandem_node=(node --conditions=@tandem/source --disable-warning=ExperimentalWarning)
name=tier
end_cluster() { "${tandem_node[@]}" e2e/cluster/main.ts down --name "$name"; }
trap end_cluster EXIT

status=0
"${tandem_node[@]}" e2e/cluster/main.ts build
timeout --foreground --kill-after=10 20m "${tandem_node[@]}" --test --test-concurrency=1 "$tests" || status=$?
for form in "${forms[@]}"; do
	read -r cni mode <<<"$form"
	echo "== demo: $cni, kube-proxy with $mode"
	timeout --foreground --kill-after=10 15m \
		"${tandem_node[@]}" e2e/cluster/main.ts demo --name "$name" --cni "$cni" --proxy-mode "$mode" || status=$?
	if [ "$cni" = flannel ]; then
		timeout --foreground --kill-after=10 5m \
			"${tandem_node[@]}" e2e/cluster/main.ts trial sources --name "$name" || status=$?
	fi
	end_cluster
done
exit "$status"
