// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Policies that select the cluster's DNS pods and admit pods alone. Queries of pods with DNS rules come from the address of their
 * node, so such a policy drops them on every node but the server's own. Only files that hold a DNS rule too are concerned. On a node
 * the agent reports the same by the addresses of its pods (`dns-ingress-nodes`).
 */

import { isPolicyObject, type K8sObject, type PolicyObject } from '@tandem/core/k8s/objects';
import { Direction, Protocol } from '@tandem/core/policy/model/kernel-numbers';
import type { Policy, PolicyRule, PolicySpec } from '@tandem/core/policy/model/rule';
import { parsePolicy } from '@tandem/core/policy/parse/parse-policy';
import type { Hint } from './network-policy-hints.ts';

const dnsPort = 53;
/** Label of the DNS pods that distributions of Kubernetes bring, and their namespace. */
const dnsLabel = 'k8s-app';
const dnsApps: readonly string[] = ['kube-dns', 'coredns'];
const dnsNamespace = 'kube-system';
const namespaceLabel = 'io.kubernetes.pod.namespace';

type Peer = Exclude<PolicyRule['peers'], 'any'>[number];

export class DnsIngressHints {
  /** Rules of all policies of the files that let queries in to the DNS pods. */
  readonly #admitting: readonly PolicyRule[];
  readonly #hasDnsRules: boolean;

  constructor(objects: readonly K8sObject[]) {
    const policies = objects.flatMap((object) => policyOf(object) ?? []);
    const specs = policies.flatMap((policy) => policy.specs);
    this.#admitting = policies.flatMap((policy) =>
      policy.specs.filter((each) => isOfDns(policy, each)).flatMap(queryRules),
    );
    this.#hasDnsRules = specs.some(({ rules }) =>
      rules.some(({ ports }) => ports !== 'any' && ports.some(({ dns }) => dns !== null)),
    );
  }

  of(object: PolicyObject): readonly Hint[] {
    const policy = policyOf(object);
    if (policy === null || !this.#hasDnsRules || this.#admitting.some(admitsNodes)) return [];
    return policy.specs
      .filter((spec) => spec.denyIngress && isOfDns(policy, spec))
      .flatMap((spec) => queryRules(spec).slice(0, 1))
      .map(({ path }) => ({
        path,
        message:
          'admits pods and not the nodes: queries of pods with DNS rules come from the address of their node, and are dropped ' +
          'on other nodes. Add fromEntities: [remote-node], in a NetworkPolicy an ipBlock with the addresses of the nodes',
      }));
  }
}

function policyOf(object: K8sObject): Policy | null {
  if (!isPolicyObject(object)) return null;
  const parsed = parsePolicy(object);
  return parsed.ok ? parsed.value : null;
}

function isOfDns({ ref }: Policy, { subject: { requirements } }: PolicySpec): boolean {
  const names = (label: string, values: readonly string[]): boolean =>
    requirements.some(
      ({ name, operator, values: own }) =>
        name === label && operator === 'In' && own.some((value) => values.includes(value)),
    );
  const isThere = ref.namespace === dnsNamespace || names(namespaceLabel, [dnsNamespace]);
  return isThere && names(dnsLabel, dnsApps);
}

/** Ingress rules that allow queries over UDP. */
function queryRules({ rules }: PolicySpec): readonly PolicyRule[] {
  return rules.filter(
    ({ direction, action, ports }) =>
      direction === Direction.ingress &&
      action === 'allow' &&
      (ports === 'any' ||
        ports.some((each) =>
          each.ports.some(
            ({ protocol, first, last }) =>
              protocol === Protocol.udp && first <= dnsPort && dnsPort <= last,
          ),
        )),
  );
}

/** Whether an ipBlock has the addresses of the nodes is not in the files. */
function admitsNodes({ peers }: PolicyRule): boolean {
  const isNode = (peer: Peer): boolean =>
    (peer.kind === 'entity' && ['remote-node', 'cluster'].includes(peer.entity)) ||
    (peer.kind === 'cidr' && peer.isIpBlock === true);
  return peers === 'any' || peers.some(isNode);
}
