// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Readings of the node's network over netlink, for which a caller waits. `tandem doctor` looks at one: in the image of the agent there is
 * no iproute2.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { NetworkKind, NetworkState } from '@tandem/netlink/network-state';
import { NetworkView } from '@tandem/netlink/network-view';
import { systemClock } from '@tandem/runtime/system-clock';
import { TandemError } from '@tandem/runtime/tandem-error';
import { networkPauseMs, networkReadMs, networkRestMs } from '../limits.ts';

export interface NodeNetwork {
  readonly state: NetworkState;
  /** Why a kind could not be read; `state` has nothing of it. */
  readonly problems: ReadonlyMap<NetworkKind, string>;
}

/** `routingTable`: read whole beside the main one. @throws DnsSocketError: no netlink socket can be made */
export async function readNodeNetwork(routingTable: number): Promise<NodeNetwork> {
  using view = await NetworkView.open({ tables: [routingTable] });
  return { state: view.state, problems: new Map(view.problems) };
}

export type ReadView = Pick<NetworkView, 'problems' | 'refresh'>;

/** Kinds without which pods keep their programs and the node its ways out; their tables are those that grow long. */
const restKinds: ReadonlySet<NetworkKind> = new Set(['neighbors', 'forwarding']);

/**
 * Waits for the first reading: of neighbours and forwarding entries `restMs`, of all else `withinMs`. A node whose interfaces were never
 * read looks like one without any: every pod would lose its programs, and no bridge would count as one of pods. A node whose
 * routes were never read has no way out: a veth that is its uplink, as where a container is the node, would be cut off. Of all kinds but the
 * interfaces the start goes on without what cannot be read, and `status` says it.
 * @throws TandemError: the interfaces cannot be read
 */
export async function awaitNetwork(
  view: ReadView,
  withinMs: number = networkReadMs,
  restMs: number = networkRestMs,
): Promise<void> {
  const startMs = systemClock.monotonicMs();
  const awaited = (): readonly NetworkKind[] => {
    const waitedMs = systemClock.monotonicMs() - startMs;
    const limitOf = (kind: NetworkKind): number => (restKinds.has(kind) ? restMs : withinMs);
    return [...view.problems.keys()].filter((kind) => waitedMs < Math.min(withinMs, limitOf(kind)));
  };
  while (awaited().length > 0) {
    // oxlint-disable-next-line no-await-in-loop -- a poll
    await delay(networkPauseMs);
    const kinds = awaited();
    // oxlint-disable-next-line no-await-in-loop -- as above
    if (kinds.length > 0) await view.refresh(...kinds);
  }
  requireRead(view, 'links');
}

/** Reads these kinds as they are now. @throws TandemError: one cannot be read, so what is there is not known */
export async function readNow(view: ReadView, ...kinds: readonly NetworkKind[]): Promise<void> {
  await view.refresh(...kinds);
  requireRead(view, ...kinds);
}

function requireRead({ problems }: ReadView, ...kinds: readonly NetworkKind[]): void {
  for (const kind of kinds) {
    const reason = problems.get(kind);
    if (reason === undefined) continue;
    throw new TandemError('TANDEM_NETLINK', `${kind} of the node cannot be read: ${reason}`);
  }
}
