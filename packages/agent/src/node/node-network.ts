// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The node's network, read once over netlink. `tandem doctor` looks at it: in the image of the agent there is no
 * iproute2.
 */

import type { NetworkKind, NetworkState } from '@tandem/netlink/network-state';
import { NetworkView } from '@tandem/netlink/network-view';

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
