// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Privileges of the agent. The chart and the systemd unit grant as much, and tests start it with no more. */

import type { Capability } from '@tandem/dns-sockets/privileges';

/**
 * BPF, PERFMON: maps and programs, beside them NET_ADMIN: links, routes, rules, nft. CHOWN, DAC_OVERRIDE, FOWNER: files and pins that
 * it shares with the DNS proxy. Not SYS_ADMIN, without which the kernel opens no map, program or link by its id.
 */
export const agentCapabilities: readonly Capability[] = [
  'BPF',
  'NET_ADMIN',
  'PERFMON',
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
];
