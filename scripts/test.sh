#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright The Tandem Authors
#
# Every test, in groups by what they may share the CPUs with: the packages', then those of a node that assert
# what happens, five at a time, for they often wait; then those that assert a time that is long beside a turn of the scheduler, four
# at a time; then those that assert how fast it happens, or how much CPU or memory it takes, each alone. The
# simulation has a clock of its own: it gets the CPU time that the others leave, and is over before the last group.
set -euo pipefail

usage() {
	cat <<'EOF'
usage: ./run test [--full [--long [--only=A,B]]]
       ./run test --kernels [--only=A,B] [--minutes=N] [--save]
       ./run test --cluster [--short]

  --full  the long tier: more faults, more names, more mutations
  --long  of those only the files that have a long tier, with their results in docs/results/test-full-DATE.md
  --only  of those only these, such as million-names; the results are appended

  --kernels  instead: the BPF programs, and their tests on real paths, on kernels that this machine does not run,
             in emulation (x86_64); at most 8 minutes each; --kernels --help says more
  --cluster  instead: on a real Kubernetes of this machine (./run cluster), whose programs are built first: the bed
             itself, then the demo and a trial on bridge, ptp and flannel; --short: chart and controller, and the first demo
EOF
}

if [ "${1:-}" = --kernels ]; then
	shift
	exec node --conditions=@tandem/source --disable-warning=ExperimentalWarning e2e/kernels/main.ts "$@"
fi

if [ "${1:-}" = --cluster ]; then
	exec bash scripts/test-cluster.sh "${@:2}"
fi

tier=quick
is_long=false
only=
for argument in "$@"; do
	case "$argument" in
	--full) tier=full ;;
	--long) is_long=true ;;
	--only=*) only=${argument#--only=} ;;
	-h | --help)
		usage
		exit 0
		;;
	*)
		echo "test: unknown option '$argument'" >&2
		exit 2
		;;
	esac
done
if $is_long && [ $tier != full ]; then
	echo "test: --long needs --full" >&2
	exit 2
fi
export TANDEM_TEST_TIER=$tier
# Each file is a process of its own that loads the same modules: compiled once.
export NODE_COMPILE_CACHE=$PWD/.tools/compile-cache

# This run alone has it: another one in this checkout must not lose its programs. A run that was killed left its own.
product=$PWD/.tools/product.$$
for directory in "$PWD"/.tools/product.*; do
	if [ -d "$directory" ] && ! kill -0 "${directory##*.}" 2>/dev/null; then rm -rf "$directory"; fi
done

# What a machine could have of ours to lose track of. Namespaces and pins carry the pid of the test that made
# them, most in base 36: those of living tests, another checkout's perhaps, are not left behind.
footprint() {
	local name pid
	{
		ip netns list | cut -d' ' -f1
		find /sys/fs/bpf -maxdepth 1 -printf '%f\n'
	} | while read -r name; do
		if [[ $name =~ ^td([0-9a-z]+)- ]]; then
			pid=$((36#${BASH_REMATCH[1]}))
		elif [[ $name =~ ^tandem-loader-test-([0-9]+)- ]]; then
			pid=${BASH_REMATCH[1]}
		else
			continue
		fi
		kill -0 "$pid" 2>/dev/null || echo "$name"
	done
	ip -4 rule show
	ip -6 rule show
	ip route show table 2077 2>/dev/null || true
	nft list tables 2>/dev/null || true
	pgrep -af "$PWD/(packages|e2e)/|$product/" | grep -v -- --test | cut -d' ' -f2- || true
}
before=$(footprint)

# Scenarios start the programs as the images have them, each in one file: a start takes less CPU time.
trap 'rm -rf "$product"' EXIT
node --conditions=@tandem/source --disable-warning=ExperimentalWarning e2e/kit/bundle-product.ts "$product"
export TANDEM_TEST_PACKAGES=$product/packages

# A group that hangs is ended, and says what it was at: far above what any takes, or the long tier. The simulation, which
# gets idle CPU time alone, has the time of all groups.
group_timeout=20m
simulation_timeout=60m
[ $tier = quick ] || { group_timeout=6h simulation_timeout=12h; }
node_test=(timeout --foreground --kill-after=10 "$group_timeout"
	node --conditions=@tandem/source --disable-warning=ExperimentalWarning --test)
# Shown as they come, and the failures again at the end.
TANDEM_TEST_FAILURES=$(mktemp)
export TANDEM_TEST_FAILURES
trap 'rm -rf "$TANDEM_TEST_FAILURES" "$product"' EXIT
node_test+=(--test-reporter=spec --test-reporter-destination=stdout
	--test-reporter=./scripts/failures-reporter.ts --test-reporter-destination=stderr)

if $is_long; then
	bash scripts/check.sh
	mapfile -t files < <(grep -l TANDEM_TEST_TIER bpf/tests/*.test.ts e2e/{scenarios,policy-oracle}/*.test.ts | grep -E "/(${only//,/|})" || true)
	if [ ${#files[@]} -eq 0 ]; then
		echo "test: no file of the long tier is named $only" >&2
		exit 2
	fi
	report=docs/results/test-full-$(date -u +%F).md
	status=0
	{
		echo "# The long tier of the tests, $(date -u +%FT%RZ)"
		echo
		echo "- commit $(git describe --always --dirty=' with changes' --abbrev=12), node $(node --version), $(uname -sr), $(nproc) CPUs"
		echo "- load average before: $(cut -d' ' -f1-3 /proc/loadavg)"
		echo "- files: ${files[*]##*/}; seeds are in the lines below"
		echo
		echo '```'
	} >>"$report"
	"${node_test[@]}" --test-concurrency=1 "${files[@]}" 2>&1 | sed -u "s#file://##g; s#$PWD/##g" | tee -a "$report" || status=$?
	{
		echo '```'
		echo
		echo "Load average after: $(cut -d' ' -f1-3 /proc/loadavg). Exit code $status."
	} >>"$report"
	exit "$status"
fi

# What runs beside the groups writes its results to a file, shown when it has ended.
declare -A results=()
beside() { # NAME COMMAND...
	local file
	file=$(mktemp)
	setsid "${@:2}" >"$file" 2>&1 &
	results[$!]=$file
	printf -v "$1" %s $!
}
ended() { # PID
	local code=0
	wait "$1" || code=$?
	# A runner that was ended left its files running.
	kill -KILL -- -"$1" 2>/dev/null || true
	cat "${results[$1]}"
	return "$code"
}
end_all() {
	local pid
	for pid in "${!results[@]}"; do
		kill -KILL -- -"$pid" 2>/dev/null || true
		rm -f "${results[$pid]}"
	done
	rm -rf "$TANDEM_TEST_FAILURES" "$product"
}
trap end_all EXIT

# How many times longer a state may take to come, and an answer that is asserted to be soon, beside other files.
export TANDEM_TEST_PATIENCE=3
# A session of its own has the CPU share of all the others together, whatever its class (sched_autogroup), until it gives that up.
beside simulation bash -c 'echo 19 2>/dev/null >/proc/self/autogroup || true; exec chrt --idle 0 "$@"' bash \
	"${node_test[@]/#$group_timeout/$simulation_timeout}" 'e2e/sim/**/*.test.ts'
# Linters leave a CPU idle.
bash scripts/check.sh

status=0
hung=false
# Exit code of a group: that of the runner is 1 where tests failed; any other means that it was ended.
failed() {
	status=$1
	[ "$1" = 1 ] || hung=true
}
"${node_test[@]}" --test-concurrency=5 \
	'packages/core/src/**/*.test.ts' 'packages/proto/**/*.test.ts' 'packages/runtime/src/**/*.test.ts' \
	'packages/bpf-loader-node/**/*.test.ts' 'bpf/tests/**/*.test.ts' 'packages/datapath/src/**/*.test.ts' \
	'packages/agent/src/**/*.test.ts' 'packages/controller/src/**/*.test.ts' 'packages/cli/src/**/*.test.ts' \
	'packages/netlink/src/**/*.test.ts' 'packages/images/src/**/*.test.ts' 'packages/testing/src/**/*.test.ts' \
	'packages/dns-proxy/src/**/*.test.ts' ||
	failed $?
"${node_test[@]}" --test-concurrency=4 'packages/dns-sockets/**/*.test.ts' 'packages/kube/src/**/*.test.ts' ||
	failed $?

# The name says how a file shares the CPUs: NAME.alone.test.ts asserts speed, CPU or memory; NAME.timed.test.ts asserts a time that is
# long beside a turn of the scheduler; any other asserts verdicts, and waits for conditions.
verdicts=()
longest=()
seconds=()
speeds=()
while read -r file; do
	case $file in
	e2e/sim/*) ;;
	# ./run test --cluster
	e2e/cluster/*) ;;
	*.alone.test.ts) speeds+=("$file") ;;
	*.timed.test.ts) seconds+=("$file") ;;
	# Beside the others from the start: node runs files by name, and these would run on alone at the end.
	e2e/scenarios/compatibility.* | e2e/scenarios/mark.* | e2e/scenarios/flows-flood.* | \
		e2e/scenarios/restart-alone.* | e2e/scenarios/start-failures.* | e2e/scenarios/start-killed.*) longest+=("$file") ;;
	*) verdicts+=("$file") ;;
	esac
done < <(find e2e -name '*.test.ts' -not -path '*/node_modules/*' | sort)
beside long "${node_test[@]}" --test-concurrency=1 "${longest[@]}"
"${node_test[@]}" --test-concurrency=5 "${verdicts[@]}" || failed $?
ended "$long" || failed $?
export TANDEM_TEST_PATIENCE=2
"${node_test[@]}" --test-concurrency=4 "${seconds[@]}" || failed $?
unset TANDEM_TEST_PATIENCE
ended "$simulation" || failed $?
"${node_test[@]}" --test-concurrency=1 "${speeds[@]}" || failed $?

# A failure that the same file does not repeat alone has its cause in what ran beside it, and is named at the end. More than
# two files are no coincidence.
mapfile -t again < <(sed -nE 's/^✖ ([^ ]+\.test\.ts): .*/\1/p' "$TANDEM_TEST_FAILURES" | sort -u)
flaky=
if [ "$status" -ne 0 ] && ! $hung && [ ${#again[@]} -ge 1 ] && [ ${#again[@]} -le 2 ] &&
	! grep '^✖ ' "$TANDEM_TEST_FAILURES" | grep -qvE '^✖ [^ ]+\.test\.ts: '; then
	echo "test: failed, now alone: ${again[*]}"
	flaky=$(cat "$TANDEM_TEST_FAILURES")
	if "${node_test[@]}" --test-concurrency=1 "${again[@]}"; then status=0; fi
fi

left=$(comm -13 <(sort <<<"$before") <(footprint | sort))
if [ -n "$left" ]; then
	echo "test: left behind:" >&2
	echo "$left" >&2
	status=1
fi
if [ "$status" -ne 0 ]; then
	echo
	echo "test: failed:"
	cat "$TANDEM_TEST_FAILURES"
elif [ -n "$flaky" ]; then
	echo
	echo "test: FLAKY, failed once and passed alone; find the cause, which may be a fault of the product:"
	echo "$flaky"
fi
exit "$status"
