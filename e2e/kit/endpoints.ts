// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Whom the datapath takes an address for: what tests wait for when pods come and go. */

import { parseAddress } from '@tandem/core/net/ip';
import { tdEndpoint, tdEndpointFlag } from '@tandem/datapath/abi.gen';
import { Datapath } from '@tandem/datapath/datapath';
import { word } from '@tandem/datapath/device-maps';
import type { TandemNode } from './tandem-node.ts';

export interface KnownEndpoint {
  /** The node's end of the pod's veth. */
  readonly ifindex: number;
  readonly policyId: number;
  readonly isHeld: boolean;
}

/** The pod of this node that has the address, null when there is none or its interface is not guarded yet. */
export function endpointOf(tandem: TandemNode, address: string): KnownEndpoint | null {
  const key = parseAddress(address);
  if (key === null) throw new TypeError(`no address: ${address}`);
  using datapath = Datapath.open(tandem.pinRoot);
  const value = datapath.map('endpoints').lookup(key);
  if (value === null) return null;
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const ifindex = view.getUint32(tdEndpoint.veth_ifindex, true);
  if (datapath.map('pod_devices').lookup(word(ifindex)) === null) return null;
  return {
    ifindex,
    policyId: view.getUint32(tdEndpoint.policy_id, true),
    isHeld: (view.getUint32(tdEndpoint.flags, true) & tdEndpointFlag.HOLD) !== 0,
  };
}
