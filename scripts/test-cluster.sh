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
TANDEM_TEST_FAILURES=$(mktemp)
export TANDEM_TEST_FAILURES
node_test=(timeout --foreground --kill-after=10 20m "${tandem_node[@]}" --test --test-concurrency=1
	--test-reporter=spec --test-reporter-destination=stdout
	--test-reporter=./scripts/failures-reporter.ts --test-reporter-destination=stderr)
"${node_test[@]}" "${tests[@]}" || status=$?
# As scripts/test.sh: one file that fails runs once more, and is named when it passes then.
mapfile -t again < <(sed -nE 's/^✖ ([^ ]+\.test\.ts): .*/\1/p' "$TANDEM_TEST_FAILURES" | sort -u)
if [ "$status" = 1 ] && [ ${#again[@]} = 1 ]; then
	status=0
	"${node_test[@]}" "${again[@]}" || status=$?
	[ "$status" != 0 ] || echo "test: FLAKY, failed once and passed then: ${again[*]}"
fi
rm -f "$TANDEM_TEST_FAILURES"
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
