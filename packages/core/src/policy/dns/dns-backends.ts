// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The ready backends behind each DNS server of the cluster, as one number per server. A member keeps
 * connected UDP sockets to a ClusterIP, and conntrack keeps each of them on one backend for as long as
 * the socket is open: when the number changes, the member opens new sockets.
 */

import type { EndpointSlice, Service } from '../../k8s/objects.ts';
import { compareAddresses, formatAddress, isIpv4 } from '../../net/ip.ts';
import { digest32 } from '../../sha256.ts';
import type { BackendDigest } from '../model/desired.ts';
import { Protocol } from '../model/kernel-numbers.ts';
import type { Redirect } from '../model/redirect.ts';
import { backendAddresses, type SlicesByService } from './dns-frontends.ts';
import { anyServer, dnsPort } from './dns-servers.ts';

/**
 * By address: every address from which DNS over UDP is redirected to pods of this node, and every ClusterIP that serves DNS over UDP on port 53 and that a policy of this node judges
 * by name. `servers` are the servers of those policies. A Service of which no EndpointSlice is known is
 * left out, as are node-local caches: no Service translation leads to them.
 */
export function backendDigests(
  services: Iterable<Service>,
  slices: SlicesByService,
  servers: Iterable<Uint8Array>,
  redirects: readonly Redirect[],
): readonly BackendDigest[] {
  const listed = new Set([...servers].map((server) => formatAddress(server)));
  const isAny = listed.has(formatAddress(anyServer));
  const found = new Map<string, BackendDigest>();
  for (const { namespace, name, clusterIps, ports } of services) {
    const port = ports.find((each) => each.port === dnsPort && each.protocol === 'UDP');
    const own = slices.get(`${namespace}/${name}`);
    if (port === undefined || own === undefined) continue;
    for (const address of clusterIps) {
      const key = formatAddress(address);
      if (!isAny && !listed.has(key)) continue;
      found.set(key, { address, digest: digestOf(own, port.name, isIpv4(address)) });
    }
  }
  for (const { address, port, protocol, backends, isAskedByName } of redirects) {
    const key = formatAddress(address);
    const isUsed = port === dnsPort && protocol === Protocol.udp && (isAny || listed.has(key));
    if (!isUsed || backends.length === 0 || isAskedByName) continue;
    const texts = backends.map((each) => `redirected ${formatAddress(each.address)} ${each.port}`);
    found.set(key, { address, digest: digestOfTexts(texts) });
  }
  return [...found.values()].sort((left, right) => compareAddresses(left.address, right.address));
}

/** Backends that kube-proxy would use: the ready ones; without any, the ones that serve while they terminate. */
function digestOf(slices: readonly EndpointSlice[], portName: string, ipv4: boolean): number {
  const all = slices
    .flatMap((slice) => backendAddresses(slice, portName, 'UDP'))
    .filter(({ address }) => isIpv4(address) === ipv4);
  const ready = all.filter(({ isReady }) => isReady);
  const used = ready.length > 0 ? ready : all.filter(({ isUsable }) => isUsable);
  return digestOfTexts(used.map(({ address, port }) => `${formatAddress(address)} ${port}`));
}

function digestOfTexts(texts: readonly string[]): number {
  const digest = digest32([...new Set(texts)].sort().join('\n'));
  return digest === 0 ? 1 : digest;
}
