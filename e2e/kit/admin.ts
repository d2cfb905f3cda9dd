// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What the two processes say on their admin sockets. */

import { nameToText } from '@tandem/core/dns/name';
import { formatAddress } from '@tandem/core/net/ip';
import { agentAdminPath, proxyAdminPath } from '@tandem/dns-proxy/config';
import { AdminService } from '@tandem/proto/gen/services';
import { GrpcClient } from '@tandem/runtime/grpc-client';
import { waitFor } from '@tandem/testing/wait';
import { type ProcessName, proxyUid, type TandemNode } from './tandem-node.ts';

/** "name address" of each entry of a process's name cache, sorted. */
export async function listFqdn(tandem: TandemNode, name: ProcessName): Promise<string[]> {
  const path =
    name === 'agent' ? agentAdminPath(tandem.runDirectory) : proxyAdminPath(tandem.runDirectory);
  using client = new GrpcClient({ path, serverUids: [proxyUid] });
  const entries: string[] = [];
  for await (const page of client.serverStream(AdminService.listFqdn, {})) {
    for (const { mapping } of page.entries) {
      if (mapping === null || mapping === undefined) continue;
      entries.push(`${nameToText(mapping.name)} ${formatAddress(mapping.address)}`);
    }
  }
  return entries.sort();
}

/** Waits until both processes know the same names; returns how many. */
export async function waitForEqualCaches(tandem: TandemNode, timeoutMs: number): Promise<number> {
  return waitFor(
    async () => {
      const [agent, proxy] = await Promise.all([
        listFqdn(tandem, 'agent'),
        listFqdn(tandem, 'proxy'),
      ]);
      return agent.length > 0 && agent.join('\n') === proxy.join('\n') ? agent.length : null;
    },
    { what: 'equal name caches', timeoutMs },
  );
}
