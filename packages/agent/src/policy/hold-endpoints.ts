// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Endpoints in the layout of the kernel's map, and the same held: known pods whose traffic is dropped. */

import { noPolicy, type PolicyId } from '@tandem/core/ids';
import { tdEndpoint, tdEndpointFlag, tdPolicyKey } from '@tandem/datapath/abi.gen';
import type { Entry } from '@tandem/datapath/encode';

export function policyOfEndpoint({ value }: Entry): PolicyId {
  return viewOf(value).getUint32(tdEndpoint.policy_id, true) as PolicyId;
}

/** Policy id in the key of an entry of `policy` or `dns_servers`. */
export function policyOfKey(key: Uint8Array, offset: number = tdPolicyKey.policy_id): PolicyId {
  return viewOf(key).getUint32(offset, true) as PolicyId;
}

export function heldEndpoint({ key, value }: Entry): Entry {
  const held = value.slice();
  const view = viewOf(held);
  view.setUint32(tdEndpoint.policy_id, noPolicy, true);
  view.setUint32(
    tdEndpoint.flags,
    view.getUint32(tdEndpoint.flags, true) | tdEndpointFlag.HOLD,
    true,
  );
  return { key, value: held };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
