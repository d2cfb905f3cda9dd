// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Enforcement at every instant, with any process down: a stream of connections to an address that nothing
 * allows and of queries for a name that is refused, with proof that none of either arrived anywhere.
 */

import assert from 'node:assert/strict';
import { Datapath } from '@tandem/datapath/datapath';
import type { Pod } from '@tandem/testing/netns';
import { Probe } from '@tandem/testing/probe';
import { addressOf, frameOf } from './attack.ts';
import { type LoadResult, startLoad } from './load.ts';
import { clusterDns4, type StandardNode } from './standard-node.ts';
import type { TandemNode } from './tandem-node.ts';

/** Addresses of no name: only a hole in enforcement lets anything through to it. */
const deniedAddresses = ['198.19.200.1', '2001:db8:2::c801'] as const;
const marker = 'must-not-arrive';
const synRate = 500;
const queryRate = 100;
/** Keys of `LoadResult.rcodes`. */
const rcodes = { SERVFAIL: '2', REFUSED: '5' } as const;

export interface DeniedTraffic {
  /** SYNs of both families that were sent, and how many came out of the node. */
  readonly syns: number;
  readonly arrived: number;
  /** Queries for refused names, what became of them, and how many reached the DNS server. */
  readonly queries: LoadResult;
  readonly forwarded: number;
}

/** Denied traffic of the client pod for `seconds`, or until `signal` if that comes earlier. */
export async function deniedTraffic(
  { node }: StandardNode,
  seconds: number,
  signal?: AbortSignal,
): Promise<DeniedTraffic> {
  const pod = node.pod('client');
  await using stack = new AsyncDisposableStack();
  const own = (namespace: Parameters<typeof Probe.start>[0]): Probe =>
    stack.use(Probe.start(namespace));
  const atUpstream = await own(node.upstream).capture({ contains: marker });
  const atDns = await own(node.pod('dns').namespace).capture({ contains: 'denied' });
  const load = stack.use(
    startLoad(pod.namespace, {
      server: clusterDns4,
      rate: queryRate,
      seconds,
      nameFormat: 'n-%u.denied.test',
      timeoutMs: 3000,
    }),
  );
  const streams = deniedAddresses.map(async (to) => {
    const probe = own(pod.namespace);
    const second = { interface: 'eth0', data: synTo(pod, to), count: synRate, rate: synRate };
    let sent = 0;
    for (let i = 0; i < seconds; i++) {
      if (signal?.aborted) break;
      // oxlint-disable-next-line no-await-in-loop -- one second after the other
      sent += (await probe.blast(second)).sent;
    }
    return sent;
  });
  const syns = await Promise.all(streams);
  load.end();
  const queries = await load.result;
  return {
    syns: syns.reduce((sum, sent) => sum + sent, 0),
    arrived: (await atUpstream.captured()).matched,
    queries,
    forwarded: (await atDns.captured()).matched,
  };
}

function synTo(pod: Pod, to: string): Uint8Array {
  return frameOf(pod, {
    ip: { source: addressOf(pod, to), destination: to },
    tcp: { sourcePort: 4000, destinationPort: 80, flags: ['syn'] },
    payload: Buffer.from(marker),
  });
}

/**
 * No SYN passed, each answer was a refusal, and no query was forwarded. `mayBeUnready`: policy changed meanwhile, so a member may have been
 * asked under one that it did not have yet, and says SERVFAIL then.
 */
export function assertNothingPassed(
  traffic: DeniedTraffic,
  { mayBeUnready = false }: { readonly mayBeUnready?: boolean } = {},
): void {
  const { syns, arrived, queries, forwarded } = traffic;
  const { REFUSED, SERVFAIL } = rcodes;
  const [refused = 0, unready = 0] = [REFUSED, SERVFAIL].map((code) => queries.rcodes[code] ?? 0);
  console.log(
    `${syns} SYNs to denied addresses, ${arrived} arrived; ${queries.sent} queries for refused names, ` +
      `${refused} refused, ${unready} SERVFAIL, ${queries.lost} without answer, ${forwarded} forwarded`,
  );
  assert.ok(syns > 0 && queries.sent > 0);
  assert.equal(arrived, 0, 'SYNs to a denied address');
  assert.equal(forwarded, 0, 'queries for refused names at the DNS server');
  const expected = new Set<string>(mayBeUnready ? [REFUSED, SERVFAIL] : [REFUSED]);
  const others = Object.entries(queries.rcodes).filter(
    ([code, count]) => count > 0 && !expected.has(code),
  );
  assert.deepEqual(others, [], 'each answer is a refusal');
}

/** Contents of the agent's maps as text: equal while nothing changes what is enforced. */
export function agentMapsText(tandem: TandemNode): string {
  using datapath = Datapath.open(tandem.pinRoot);
  const lines: string[] = [];
  for (const name of ['endpoints', 'classes', 'policy', 'dns_servers'] as const) {
    const entries = [...datapath.map(name).entries()].map(
      ([key, value]) =>
        `${name} ${Buffer.from(key).toString('hex')} ${Buffer.from(value).toString('hex')}`,
    );
    lines.push(...entries.sort());
  }
  return lines.join('\n');
}
