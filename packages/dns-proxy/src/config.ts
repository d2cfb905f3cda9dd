// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Options of the DNS proxy; those in `memberOptions` are the agent's too and must agree. */

import { join } from 'node:path';
import { nameFromText } from '@tandem/core/dns/name';
import { isMark } from '@tandem/datapath/config';
import type { ConfigSpec } from '@tandem/runtime/config';
import {
  autoOption,
  durationOption,
  enumOption,
  intOption,
  listOption,
  type StringPattern,
  stringOption,
} from '@tandem/runtime/config-option';
import type { OptionTable } from '@tandem/runtime/flags';
import { type LogConfig, logOptions } from '@tandem/runtime/log-options';
import { searchSuffixesMax, tcpConnectionsPerPodDefault } from './limits.ts';
import { parseMetricsAddress } from './metrics/address.ts';
import type { SnapshotPaths } from './policy/saved-policy.ts';
import { type DenialMode, denialModes } from './query/denial.ts';
import type { MemberSettings } from './settings.ts';

/** Options that both processes of a node have, and that must be the same for both. */
export interface MemberConfig extends LogConfig {
  readonly bpffsDir: string;
  readonly runDir: string;
  readonly stateDir: string;
  readonly port: number;
  /** 'auto': the agent chooses, the DNS proxy follows. */
  readonly mark: number | 'auto';
  readonly proxyUid: number;
  readonly denial: DenialMode;
  readonly clusterDomain: string;
  readonly searchSuffixes: readonly string[];
  readonly fqdnGraceSeconds: number;
  readonly ttlSecondsMin: number;
  readonly fqdnIdleSeconds: number;
  readonly fqdnLiveSeconds: number;
  readonly fqdnLiveIdleSeconds: number;
  readonly queriesPerSecond: number;
  readonly tcpConnectionsPerPod: number;
  readonly drainTimeout: number;
  readonly metricsAddress: string;
  readonly probeSocket: string;
}

export const absolutePath: StringPattern = { test: /^\//, range: 'an absolute path' };
export const pathOrNothing: StringPattern = {
  test: /^(\/.*)?$/,
  range: 'an absolute path, or empty',
};

export const memberOptions: OptionTable<MemberConfig> = {
  bpffsDir: stringOption({
    group: 'Node',
    description: 'Directory in a bpffs where this node pins its programs and maps.',
    default: '/sys/fs/bpf/tandem',
    pattern: absolutePath,
  }),
  runDir: stringOption({
    group: 'Node',
    description:
      'Directory of the unix sockets of the two processes, and of a copy of the policy snapshot.',
    default: '/run/tandem',
    pattern: absolutePath,
  }),
  stateDir: stringOption({
    group: 'Node',
    description: 'Directory of the policy snapshot, on a disk that survives reboots.',
    default: '/var/lib/tandem',
    pattern: absolutePath,
  }),
  port: intOption({
    group: 'Datapath',
    description:
      'Port P of the shared DNS socket. Pods do not use it, and no Service on a ClusterIP may have it.',
    default: 10_053,
    min: 1024,
    max: 65_535,
  }),
  mark: autoOption(
    intOption({
      group: 'Datapath',
      description:
        'Bit of the packet mark that steers DNS of pods to Tandem; no other software on the node may use it. auto: the agent takes the first of 0x1000, 0x40 and 0x20 that no rule of the node uses, and the DNS proxy follows it. docs/operations.md lists the bits that other software uses.',
      min: 1,
      max: 0x80000000,
    }),
  ),
  proxyUid: intOption({
    group: 'Node',
    description: 'Uid and gid of the DNS proxy, owner of the shared sockets.',
    default: 65_532,
    min: 1,
    max: 4_294_967_294,
  }),
  denial: enumOption({
    group: 'DNS',
    description:
      'RCODE for a denied name. search: NXDOMAIN for names under clusterDomain and the search suffixes, REFUSED for all others, so that every resolver library tries its whole search list.',
    default: 'search',
    values: denialModes,
  }),
  clusterDomain: stringOption({
    group: 'DNS',
    description: 'DNS domain of the cluster, for denial search.',
    default: 'cluster.local',
  }),
  searchSuffixes: listOption(
    stringOption({
      group: 'DNS',
      description:
        "Search suffixes of pods outside clusterDomain, for denial search. Empty: the search line of the node's /etc/resolv.conf, read at start; a single dot: none.",
    }),
    { default: [], itemsMax: searchSuffixesMax },
  ),
  fqdnGraceSeconds: intOption({
    group: 'DNS',
    description:
      'Time after the TTL of its name, in seconds, that an address stays reachable; up to a quarter less if the name was resolved again meanwhile.',
    default: 30,
    min: 0,
    max: 86_400,
  }),
  ttlSecondsMin: intOption({
    group: 'DNS',
    description: 'Minimum TTL, in seconds, of learned addresses: a shorter TTL is raised to it.',
    default: 0,
    min: 0,
    max: 86_400,
  }),
  queriesPerSecond: intOption({
    group: 'DNS',
    description:
      'Queries per second of one pod, and the size of a burst. Beyond that, queries over UDP get SERVFAIL and TCP connections wait. The kernel drops datagrams of a pod beyond twice that.',
    default: 5000,
    min: 1,
    max: 10_000_000,
  }),
  tcpConnectionsPerPod: intOption({
    group: 'DNS',
    description:
      'TCP connections of one pod that each process serves at one time. Further ones wait until one of them is idle.',
    default: tcpConnectionsPerPodDefault,
    min: 1,
    max: 1024,
  }),
  fqdnIdleSeconds: intOption({
    group: 'Datapath',
    description:
      'Time after its expiry, in seconds, that an address stays in the map of the kernel for open connections. For new ones see fqdnLiveSeconds.',
    default: 86_400,
    min: 0,
    max: 31_536_000,
  }),
  fqdnLiveSeconds: intOption({
    group: 'Datapath',
    description:
      'Time after its expiry, in seconds, that an address accepts new connections while an open connection of the same FQDN selector uses it; 0: none.',
    default: 86_400,
    min: 0,
    max: 31_536_000,
  }),
  fqdnLiveIdleSeconds: intOption({
    group: 'Datapath',
    description:
      'Time after the last packet of the pod, in seconds, that an open connection counts as using its address, for fqdnLiveSeconds. Set it above the keepalive interval of clients.',
    default: 600,
    min: 1,
    max: 86_400,
  }),
  drainTimeout: durationOption({
    group: 'Node',
    description:
      'Longest time from SIGTERM to the end of the process. It waits until the other process serves, and until its own queries in flight are answered.',
    default: 20_000,
    min: 0,
    max: 600_000,
  }),
  metricsAddress: stringOption({
    group: 'Observability',
    description:
      'Address of /metrics, /healthz and /readyz: ADDRESS:PORT or the path of a unix socket; empty: none. They have no authentication: 127.0.0.1 keeps them on the node.',
    default: '',
  }),
  probeSocket: stringOption({
    group: 'Observability',
    description:
      'Unix socket that answers the liveness and readiness probes of a pod, of this process alone; empty: none.',
    default: '',
    pattern: pathOrNothing,
  }),
  ...logOptions,
};

/** Faults in the relations between the shared options; empty: none. */
export function checkMemberConfig(config: MemberConfig): readonly string[] {
  const problems: string[] = [];
  if (config.mark !== 'auto' && !isMark(config.mark)) {
    problems.push('mark must be auto or one bit, such as 0x1000');
  }
  const domain = nameFromText(config.clusterDomain);
  if (domain === null || domain.length === 1) {
    problems.push('clusterDomain must be a DNS name, such as cluster.local');
  }
  for (const suffix of config.searchSuffixes) {
    if (nameFromText(suffix) === null) {
      problems.push(`searchSuffixes must be DNS names: "${suffix}" is none`);
    }
  }
  const { metricsAddress, port } = config;
  const metrics = parseMetricsAddress(metricsAddress, config.proxyUid);
  if (metricsAddress !== '' && metrics === null) {
    problems.push(
      'metricsAddress must be ADDRESS:PORT, such as 127.0.0.1:9100, or an absolute path',
    );
  }
  if (metrics?.kind === 'tcp' && metrics.port === port) {
    problems.push(
      `metricsAddress has port ${port} of the shared DNS socket (option port): choose another for one of them`,
    );
  }
  return problems;
}

/** Settings that must agree with the datapath. */
export const memberSettings = ({
  port,
  mark,
  proxyUid,
}: Pick<MemberConfig, 'port' | 'mark' | 'proxyUid'>): MemberSettings => ({
  port,
  mark,
  ownerUid: proxyUid,
});

/** Paths that both processes and the command line agree on. */
export const snapshotPaths = ({
  runDir,
  stateDir,
}: Pick<MemberConfig, 'runDir' | 'stateDir'>): SnapshotPaths => ({
  run: join(runDir, 'policy.snapshot'),
  disk: join(stateDir, 'policy.snapshot'),
});
export const syncSocketPath = (config: MemberConfig): string =>
  join(config.runDir, 'agent-sync.sock');
export const peerSocketPath = (config: MemberConfig): string => join(config.runDir, 'peer.sock');
export const agentAdminPath = (runDir: string): string => join(runDir, 'agent-admin.sock');
export const proxyAdminPath = (runDir: string): string => join(runDir, 'proxy', 'admin.sock');

export const proxyConfigSpec: ConfigSpec<MemberConfig> = {
  program: 'tandem-dns-proxy',
  description:
    "Tandem's standalone DNS proxy: serves DNS of pods beside the agent, and alone while the agent does not run.",
  options: memberOptions,
  check: checkMemberConfig,
};
