// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * DNS rules in files that mean something else in Cilium because of a CiliumLocalRedirectPolicy. Cilium applies policy
 * after the redirection, so there a rule for kube-dns alone lets no query pass to a node-local cache. Here the
 * rule includes the cache. The check is for users who move to Cilium or back.
 */

import type { LocalRedirectPolicy, Pod } from '../../k8s/objects.ts';
import { objectKey } from '../../k8s/objects.ts';
import { pairedPort } from '../../k8s/parse-redirect-policy.ts';
import { addressKey } from '../../net/ip.ts';
import { isClusterDns } from '../classes/address-owners.ts';
import type { ClusterState } from '../model/cluster-state.ts';
import type { Diagnostic } from '../model/desired.ts';
import { Direction, Protocol, Verdict } from '../model/kernel-numbers.ts';
import { type Identity, impliedIdentity, podIdentity } from '../model/labels.ts';
import type { Peer } from '../model/peer.ts';
import type { PolicyDraft, Statement } from '../model/policy-set.ts';
import { selectorMatches } from '../model/selector.ts';
import { coversPort } from './dns-judge.ts';
import { labelsOfBackends } from './redirects.ts';

const dnsPort = 53;

/** Checks the rules of all policies of the files, which count as one policy. */
export function checkRedirectedRules(
  cluster: ClusterState,
  draft: PolicyDraft,
  peers: ReadonlyMap<string, Peer>,
): readonly Diagnostic[] {
  const egress = draft.statements.filter(({ direction }) => direction === Direction.egress);
  return [...(cluster.redirectPolicies?.values() ?? [])].flatMap((policy) => {
    const { frontend, namespace, backendPorts } = policy;
    if (frontend.kind !== 'service') return [];
    const isDns =
      frontend.ports.length === 0 || frontend.ports.some(({ port }) => port === dnsPort);
    const backend = pairedPort({ name: 'dns', protocol: 'UDP' }, 1, backendPorts);
    if (!isDns || backend === null) return [];
    const behind = identitiesBehind(cluster, policy, frontend.name);
    const redirected = impliedIdentity(namespace, labelsOfBackends(policy));
    const allows = (statement: Statement): boolean =>
      statement.verdict !== Verdict.deny &&
      selects(statement, redirected, peers) &&
      coversPort(statement, Protocol.udp, backend.port);
    if (behind.length === 0 || egress.some(allows)) return [];
    const origins = egress
      .filter(({ verdict }) => verdict === Verdict.l7Dns)
      .filter((statement) => behind.some((identity) => selects(statement, identity, peers)))
      .map(({ origin }) => origin);
    return [...new Set(origins)].map((subject) => ({
      severity: 'warning' as const,
      code: 'dns-redirect-unnamed',
      subject,
      message:
        `names the pods of Service ${namespace}/${frontend.name}, and CiliumLocalRedirectPolicy ${objectKey(policy)} leads ` +
        'queries for it to other pods. Here the rule holds for these too; Cilium applies policy behind the redirection and drops the ' +
        `queries. For both, add them to toEndpoints: ${namespace}, ${[...labelsOfBackends(policy)].map(([key, value]) => `${key}: ${value}`).join(', ')}`,
    }));
  });
}

/** Identities of the pods behind the Service; if the files do not have them, the labels that kube-dns has everywhere. */
function identitiesBehind(
  cluster: ClusterState,
  { namespace }: LocalRedirectPolicy,
  service: string,
): readonly Identity[] {
  const pods = new Map<string, Pod>();
  for (const pod of cluster.pods.values()) {
    for (const address of pod.addresses) pods.set(addressKey(address), pod);
  }
  const found = [...cluster.endpointSlices.values()]
    .filter((slice) => slice.namespace === namespace && slice.serviceName === service)
    .flatMap(({ endpoints }) => endpoints.map(({ address }) => pods.get(addressKey(address))))
    .filter((pod) => pod !== undefined)
    .map((pod) => podIdentity(pod, cluster.namespaces.get(`/${namespace}`), 'default'));
  const known = cluster.services.get(`${namespace}/${service}`);
  const isDns = known === undefined ? service === 'kube-dns' : isClusterDns(known);
  if (found.length > 0 || namespace !== 'kube-system' || !isDns) return found;
  return [impliedIdentity(namespace, new Map([['k8s-app', 'kube-dns']]))];
}

function selects(
  { peers: keys }: Statement,
  identity: Identity,
  peers: ReadonlyMap<string, Peer>,
): boolean {
  if (keys === 'any') return true;
  return keys.some((key) => {
    const peer = peers.get(key);
    if (peer?.kind === 'labels') return selectorMatches(peer.selector, identity);
    return peer?.kind === 'entity' && peer.entity === 'cluster';
  });
}
