// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Contents of the agent's maps when a policy is applied and nothing has failed. */

import { type AppliedMaps, applyToDatapath } from '@tandem/agent/policy/apply';
import type { BpfMap } from '@tandem/bpf-loader-node/map';
import type { Compiled } from '@tandem/core/policy/model/desired';
import {
  tdClass,
  tdClassKey,
  tdDnsServer,
  tdDnsServerKey,
  tdEndpoint,
  tdGroup,
  tdPolicy,
  tdPolicyKey,
} from '@tandem/datapath/abi.gen';
import { AgentTable } from '@tandem/datapath/agent-table';
import { encodeEndpoint } from '@tandem/datapath/encode';
import { EntryMap } from './entry-map.ts';
import type { PolicyOfVariant } from './universe-policies.ts';

export type MapName = 'endpoints' | 'classes' | 'policy' | 'dns_servers';

export const mapSizes: Readonly<Record<MapName, { readonly key: number; readonly value: number }>> =
  {
    endpoints: { key: 16, value: tdEndpoint.size },
    classes: { key: tdClassKey.size, value: tdClass.size },
    policy: { key: tdPolicyKey.size, value: tdPolicy.size },
    dns_servers: { key: tdDnsServerKey.size, value: tdDnsServer.size },
  };

const made = new Map<PolicyOfVariant, Record<MapName, EntryMap>>();

export function initialMaps(policy: PolicyOfVariant): Record<MapName, EntryMap> {
  let maps = made.get(policy);
  if (maps === undefined) {
    maps = Object.fromEntries(
      Object.entries(mapSizes).map(([name, sizes]) => [name, new EntryMap(name, sizes)]),
    ) as Record<MapName, EntryMap>;
    const found = maps;
    const group = new ArrayBuffer(tdGroup.size);
    applyToDatapath({
      datapath: {
        map: (name: string) => (name === 'group' ? { mmap: () => group } : found[name as MapName]),
        table: (name: string) => new AgentTable(found[name as MapName] as unknown as BpfMap, null),
      } as unknown as AppliedMaps,
      compiled: policy.compiled,
      retained: new Map(),
      endpoints: endpointsOf(policy.compiled.endpoints),
    });
    made.set(policy, maps);
  }
  return maps;
}

const noMac = new Uint8Array(6);

export function endpointsOf(endpoints: Compiled['endpoints']): ReturnType<typeof encodeEndpoint>[] {
  return endpoints.map((endpoint) =>
    encodeEndpoint(endpoint.address, {
      ...endpoint,
      vethIfindex: 1,
      l3Ifindex: 1,
      bridgeMac: noMac,
      mac: noMac,
    }),
  );
}
