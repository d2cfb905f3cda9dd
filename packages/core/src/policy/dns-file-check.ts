// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * DNS rules in files, before an agent reads them: the same check as on a node, without one. All policies
 * count as one, so that what one of them lacks and another one has is not missed.
 *
 * Files may hold policies alone. Then only that is said which no further object can mend: servers that
 * cannot be listed, and ports that a Service of the files does not lead to. Files that hold Nodes are
 * taken for a whole cluster.
 */
import { formatAddress } from '../net/ip.ts';
import { findAddressOwners } from './address-owners.ts';
import { AddressClasses } from './classes.ts';
import type { ClusterState, NodeContext } from './cluster-state.ts';
import { trustedServers } from './compile.ts';
import type { Diagnostic } from './desired.ts';
import { findFrontends } from './dns-frontends.ts';
import { DnsServerFinder } from './dns-servers.ts';
import { activeSpecs, draftPolicy } from './policy-set.ts';
import { StableIds } from './stable-ids.ts';

const certainCodes: readonly string[] = [
  'dns-servers-not-listed',
  'dns-backend-port',
  'dns-frontend-port',
];
const wholeClusterCodes: readonly string[] = [...certainCodes, 'dns-rule-without-server'];

/** Of the DNS rules of all valid policies; subjects are `Kind/namespace/name: field`. */
export function checkDnsRules(cluster: ClusterState): readonly Diagnostic[] {
  const [firstNode] = cluster.nodes.values();
  const node: NodeContext = {
    nodeName: firstNode?.name ?? '',
    localAddresses: [],
    clusterCidrs: [],
    serviceCidrs: [],
    nodeLocalDns: [],
    clusterName: 'default',
  };
  const draft = draftPolicy(activeSpecs(cluster));
  const peers = new Map(draft.specs.flatMap((spec) => [...spec.peers]));
  const { owners } = findAddressOwners(cluster, node);
  const classes = AddressClasses.build(owners, peers, StableIds.empty());
  const trusted = trustedServers(cluster, node).map((address) => formatAddress(address));
  const frontends = findFrontends(cluster, node, classes, new Set(trusted));
  const finder = new DnsServerFinder({ classes, peers, frontends, nodeLocal: [] });
  finder.find(draft);
  const codes = firstNode === undefined ? certainCodes : wholeClusterCodes;
  return [...finder.diagnostics].filter(({ code }) => codes.includes(code));
}
