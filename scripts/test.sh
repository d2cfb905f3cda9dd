#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright The Tandem Authors
#
# Every test. Pure packages first, then what touches the kernel, one file at a time: those share the
# machine's cores, and latency is part of what they assert.
set -euo pipefail

tier=quick
for argument in "$@"; do
	case "$argument" in
	--full) tier=full ;;
	-h | --help)
		echo "usage: ./run test [--full]"
		exit 0
		;;
	*)
		echo "test: unknown option '$argument'" >&2
		exit 2
		;;
	esac
done
export TANDEM_TEST_TIER=$tier

bash scripts/check.sh

node_test=(node --conditions=@tandem/source --disable-warning=ExperimentalWarning --test)
"${node_test[@]}" --test-concurrency=2 \
	'packages/core/src/**/*.test.ts' 'packages/proto/**/*.test.ts' 'packages/runtime/src/**/*.test.ts'
"${node_test[@]}" --test-concurrency=1 \
	'packages/bpf-loader-node/**/*.test.ts' 'packages/dns-sockets/**/*.test.ts' \
	'packages/testing/src/**/*.test.ts' 'bpf/tests/**/*.test.ts' \
	'packages/datapath/src/**/*.test.ts' 'packages/dns-proxy/src/**/*.test.ts' \
	'packages/agent/src/**/*.test.ts' 'packages/cli/src/**/*.test.ts' 'e2e/**/*.test.ts'
