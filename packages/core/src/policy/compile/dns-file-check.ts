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

import { AddressClasses } from '../classes/classes.ts';
import { OwnerTable } from '../classes/owner-table.ts';
import { PeerTable } from '../classes/peer-table.ts';
import { checkRedirectedRules } from '../dns/redirect-file-check.ts';
import { planRedirects } from '../dns/redirects.ts';
import type { ClusterState, NodeContext } from '../model/cluster-state.ts';
import type { Diagnostic } from '../model/desired.ts';
import { IdSession } from '../model/id-session.ts';
import { askedOfPods, namesAsked } from '../model/named-ports.ts';
import { activeSpecs, draftPolicy, specsInForce } from '../model/policy-set.ts';
import { StableIds } from '../model/stable-ids.ts';
import { peersOf } from './build-policies.ts';
import { DnsPlanner } from './dns-planner.ts';

const certainCodes: readonly string[] = [
  'dns-servers-not-listed',
  'dns-backend-port',
  'dns-frontend-port',
  'dns-redirect-unnamed',
  'redirect-port',
  'redirect-conflict',
];
const wholeClusterCodes: readonly string[] = [
  ...certainCodes,
  'dns-rule-without-server',
  'redirect-refused',
];

/** Checks the DNS rules of all valid policies, and redirects; subjects are `Kind/namespace/name: field`. */
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
  const owners = new OwnerTable();
  const ports = owners.portNumbers(cluster.pods);
  const asked = askedOfPods(
    [...cluster.policies.values()].flatMap(namesAsked),
    ports,
    cluster.namespaces,
  );
  const specs = [...cluster.policies.values()].flatMap((state) => specsInForce(state, asked));
  const draft = draftPolicy(activeSpecs(specs));
  const peers = new PeerTable();
  peers.update([peersOf(draft)]);
  owners.update(cluster, node, asked);
  const classes = new AddressClasses(Infinity);
  const ids = new IdSession();
  ids.begin(StableIds.empty());
  classes.update(owners, peers, ids);
  // Any node may have the cache, and the files have none: a server behind a redirect is judged by labels.
  const { redirects, diagnostics: ofRedirects } = planRedirects(cluster, node, {
    localPods: [],
    hostPods: [],
    flagsOf: (address) => classes.at(address).flags,
    isAskedByName: () => false,
  });
  // One policy of them all, which no pod has.
  const surroundings = { classes, redirects, namesMax: Infinity };
  const ofRules = new DnsPlanner().plan(cluster, node, surroundings, peers.peers, [draft]);
  const diagnostics = [
    ...ofRules.diagnostics,
    ...ofRedirects,
    ...checkRedirectedRules(cluster, draft, peers.peers),
  ];
  const codes = firstNode === undefined ? certainCodes : wholeClusterCodes;
  return diagnostics.filter(({ code }) => codes.includes(code));
}
