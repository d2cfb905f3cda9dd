#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright The Tandem Authors
#
# Called by ./run test --cluster: the bed's own promises, then the demo and a trial on each form of CNI and kube-proxy.
# Each step that does not hold fails it. Clusters have names of their own and are gone afterwards. --short: the tests of the
# chart and of the controller, and one demo.
set -euo pipefail

tests=(e2e/cluster/*.test.ts e2e/cluster/chaos/*.test.ts)
# CNI, kube-proxy's mode, trial, further options
forms=('bridge iptables gate' 'ptp nftables families --dual-stack' 'flannel iptables sources')
if [ "${1:-}" = --short ]; then
	tests=(e2e/cluster/{chart*,release,controller,admission,chaos/part}.test.ts)
	forms=('bridge iptables')
fi

tandem_node=(node --conditions=@tandem/source --disable-warning=ExperimentalWarning)
name=tier
end_cluster() { "${tandem_node[@]}" e2e/cluster/main.ts down --name "$name"; }
trap end_cluster EXIT

status=0
"${tandem_node[@]}" e2e/cluster/main.ts build
timeout --foreground --kill-after=10 20m "${tandem_node[@]}" --test --test-concurrency=1 "${tests[@]}" || status=$?
for form in "${forms[@]}"; do
	read -r -a words <<<"$form"
	trial=${words[2]:-}
	cluster=(--name "$name" --cni "${words[0]}" --proxy-mode "${words[1]}" "${words[@]:3}")
	echo "== demo: ${cluster[*]:2}"
	timeout --foreground --kill-after=10 15m \
		"${tandem_node[@]}" e2e/cluster/main.ts demo "${cluster[@]}" || status=$?
	if [ -n "$trial" ]; then
		echo "== trial $trial"
		timeout --foreground --kill-after=10 10m \
			"${tandem_node[@]}" e2e/cluster/main.ts trial "$trial" "${cluster[@]}" || status=$?
	fi
	end_cluster
done
exit "$status"
