// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Removes from the node's network and kernel what the agent made there: policy ends. The caller holds the agent's index in the
 * group, so that no agent runs that would make it again.
 */

import { removePins } from '@tandem/datapath/datapath';
import { unshareSearch } from '@tandem/datapath/pins';
import { NTF_STICKY, RTPROT_TANDEM } from '@tandem/netlink/constants';
import type { NetworkView } from '@tandem/netlink/network-view';
import { TandemError } from '@tandem/runtime/tandem-error';
import { removeRedirects } from '../redirect/redirect-stack.ts';
import { removeArpTables, retryArp } from './arp-guard.ts';
import { type NetworkRulesOptions, removeNetworkRules } from './network-rules.ts';
import { nftTable } from './nft-table.ts';
import { readNow } from './node-network.ts';

export interface NodeFootprint {
  /** Null: the network was never read, so no routing of it was changed. */
  readonly view: NetworkView | null;
  readonly rules: NetworkRulesOptions;
  readonly pinRoot: string;
  /** The group that may search the directories above the pins. */
  readonly proxyGid: number;
}

export interface RemovalProblem {
  readonly part: string;
  readonly message: string;
}

/** Never rejects: gives what could not be removed. */
export async function removeDatapath(footprint: NodeFootprint): Promise<readonly RemovalProblem[]> {
  const { view, rules, pinRoot, proxyGid } = footprint;
  const problems: RemovalProblem[] = [];
  const attempt = async (part: string, work: () => Promise<unknown> | void): Promise<void> => {
    try {
      await work();
    } catch (error) {
      problems.push({ part, message: TandemError.from(error).message });
    }
  };
  // First, and even without a view: without `from_pod` these tables would drop all ARP of bridged pods.
  await attempt('ARP tables', () => removeArp());
  await attempt('pins', () => removePins(pinRoot));
  await attempt('redirects', () => removeRedirects());
  await attempt('bpffs', () => unshareSearch(pinRoot, proxyGid));
  if (view === null) return problems;
  problems.push(...(await removeNetworkRules(view, rules)));
  await attempt('bridge entries', () => removeBridgeEntries(view));
  return problems;
}

/** @throws TandemError with what is left to do */
async function removeArp(): Promise<void> {
  try {
    await retryArp(removeArpTables);
  } catch (error) {
    throw new TandemError(
      'TANDEM_COMMAND',
      `${TandemError.from(error).message}: if they are there, pods behind bridges are cut off until \`nft delete table arp ${nftTable}\``,
    );
  }
}

/**
 * Removes the entries of bridged pods: neighbours with our mark, and the sticky forwarding entries of their hardware
 * addresses.
 */
async function removeBridgeEntries(view: NetworkView): Promise<void> {
  const { rtnetlink, state } = view;
  await readNow(view, 'neighbors', 'forwarding');
  for (const { ifindex, address, mac, protocol } of state.neighbors) {
    if (protocol !== RTPROT_TANDEM) continue;
    const entry = state.forwardingEntry(ifindex, mac);
    if (entry !== undefined && (entry.flags & NTF_STICKY) !== 0) {
      // oxlint-disable-next-line no-await-in-loop -- few, one after the other
      await rtnetlink.deleteForwarding(entry.port, mac);
    }
    // oxlint-disable-next-line no-await-in-loop -- as above
    await rtnetlink.deleteNeighbor(ifindex, address);
  }
}
