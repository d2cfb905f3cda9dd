// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * NetworkPolicies that are valid and say something else than most who write so mean. Only `tandem policy validate` says this:
 * in a cluster each of these may be meant.
 */

import type { K8sObject, Namespace, PolicyObject } from '@tandem/core/k8s/objects';
import { type Fields, isFields } from '@tandem/core/k8s/shape';

export interface Hint {
  /** "spec.egress[0].ports"; empty: the object as a whole. */
  readonly path: string;
  readonly message: string;
}

const dnsPort = 53;
const nameLabel = 'name';

/** Hints for the valid objects of one set of files. */
export class NetworkPolicyHints {
  readonly #namesLabel: boolean;
  /** Namespaces of which a policy allows DNS, as far as can be read; '' all of them. */
  readonly #withDns: ReadonlySet<string>;

  constructor(objects: readonly K8sObject[]) {
    const isNamespace = (object: K8sObject): object is Namespace => object.kind === 'Namespace';
    this.#namesLabel = objects.filter(isNamespace).some(({ labels }) => labels.has(nameLabel));
    this.#withDns = new Set(objects.flatMap((object) => dnsNamespaceOf(object)));
  }

  of({ spec, namespace }: PolicyObject): readonly Hint[] {
    if (!isFields(spec)) return [];
    const hints: Hint[] = [];
    if (spec['podSelector'] === undefined || spec['podSelector'] === null) {
      const message =
        'is missing: every pod of the namespace is selected. Write {} if that is intended';
      hints.push({ path: 'spec.podSelector', message });
    }
    hints.push(...typesHints(spec), ...this.#rulesHints(spec, 'ingress', 'from'));
    hints.push(...this.#rulesHints(spec, 'egress', 'to'));
    const egress = rulesOf(spec, 'egress');
    if (egress.length > 0 && typesOf(spec).includes('Egress') && !this.#mayAsk(namespace)) {
      const message =
        'allows no DNS, and neither does another policy of the files: the pods resolve no names. Allow UDP and TCP port 53 to the DNS pods';
      hints.push({ path: 'spec.egress', message });
    }
    return hints;
  }

  #mayAsk(namespace: string): boolean {
    return this.#withDns.has('') || this.#withDns.has(namespace);
  }

  #rulesHints(spec: Fields, section: 'ingress' | 'egress', own: 'from' | 'to'): readonly Hint[] {
    const rules = rulesOf(spec, section);
    return rules.flatMap((rule, index) => {
      const path = `spec.${section}[${index}]`;
      const hints: Hint[] = [...emptyHints(rule, own, path)];
      const peers = itemsOf(rule, own);
      const next = rules[index + 1];
      const isSplit = peers.length > 0 && !('ports' in rule) && next !== undefined;
      if (isSplit && !(own in next) && itemsOf(next, 'ports').length > 0) {
        const message = `allows these peers every port, and ${section}[${index + 1}] every peer its ports: for both at once write them in one item, without the dash before ports`;
        hints.push({ path, message });
      }
      for (const [at, peer] of peers.entries()) {
        hints.push(...this.#peerHints(peer, peers[at + 1], `${path}.${own}[${at}]`));
      }
      return section === 'egress' ? [...hints, ...tcpDnsHints(rule, path)] : hints;
    });
  }

  #peerHints(peer: Fields, next: Fields | undefined, path: string): readonly Hint[] {
    const hints: Hint[] = [];
    const { podSelector, namespaceSelector } = peer;
    if (namespaceSelector === null && isFields(podSelector)) {
      const message =
        "has no value, which selects pods of the policy's own namespace. Write {} for all";
      hints.push({ path: `${path}.namespaceSelector`, message });
    }
    const { matchLabels } = isFields(namespaceSelector) ? namespaceSelector : {};
    if (isFields(matchLabels) && nameLabel in matchLabels && !this.#namesLabel) {
      const message = `selects namespaces by a label "name", which namespaces do not have by default: for their name write kubernetes.io/metadata.name`;
      hints.push({ path: `${path}.namespaceSelector`, message });
    }
    if (next !== undefined && isAlternative(peer, next)) {
      const message =
        "and the next peer allow each alone: these namespaces whole, and these pods of the policy's own. For both at once remove the dash between them";
      hints.push({ path, message });
    }
    return hints;
  }
}

function typesHints(spec: Fields): readonly Hint[] {
  const types = typesOf(spec);
  return (['ingress', 'egress'] as const).flatMap((section): readonly Hint[] => {
    const type = section === 'ingress' ? 'Ingress' : 'Egress';
    const other = section === 'ingress' ? 'egress' : 'ingress';
    const isForgotten = !(section in spec) && rulesOf(spec, other).length > 0;
    if (!types.includes(type) || !isForgotten || !Array.isArray(spec['policyTypes'])) return [];
    const message = `names ${type}, for which there is no rule: all ${section} is denied. Write ${section}: [] if that is intended`;
    return [{ path: 'spec.policyTypes', message }];
  });
}

/** `to: []` beside ports is how many write "to anywhere". */
function emptyHints(rule: Fields, own: 'from' | 'to', path: string): readonly Hint[] {
  return [own, 'ports'].flatMap((field): readonly Hint[] => {
    const isNull = rule[field] === null;
    const isEmpty = Array.isArray(rule[field]) && itemsOf(rule, field).length === 0;
    const isUsual = field === own && itemsOf(rule, 'ports').length > 0;
    if (!isNull && !(isEmpty && !isUsual)) return [];
    const meant = field === 'ports' ? 'every port' : 'everybody';
    const message = `is empty, which is ${meant}: remove it if that is intended`;
    return [{ path: `${path}.${field}`, message }];
  });
}

function tcpDnsHints(rule: Fields, path: string): readonly Hint[] {
  const ports = itemsOf(rule, 'ports');
  const isTcp = ({ protocol }: Fields): boolean => (protocol ?? 'TCP') === 'TCP';
  const index = ports.findIndex((port) => port['port'] === dnsPort && isTcp(port));
  if (index < 0 || ports.some((port) => allowsDns(port))) return [];
  const message =
    'allows DNS over TCP alone: clients query over UDP first. Add an item with protocol: UDP';
  return [{ path: `${path}.ports[${index}]`, message }];
}

/** One with a selector of namespaces alone beside one with a selector of pods alone, both of which select. */
function isAlternative(one: Fields, other: Fields): boolean {
  const selects = (selector: unknown): boolean =>
    isFields(selector) && Object.values(selector).some((part) => part !== null);
  const isOf = (peer: Fields, field: string): boolean =>
    Object.keys(peer).length === 1 && selects(peer[field]);
  return (
    (isOf(one, 'namespaceSelector') && isOf(other, 'podSelector')) ||
    (isOf(one, 'podSelector') && isOf(other, 'namespaceSelector'))
  );
}

/** Where a policy lets pods ask for names; of Cilium's kinds, which may do it in several ways, any egress counts. */
function dnsNamespaceOf(object: K8sObject): readonly string[] {
  if (object.kind === 'CiliumNetworkPolicy') return [object.namespace];
  if (object.kind === 'CiliumClusterwideNetworkPolicy') return [''];
  if (object.kind === 'ClusterNetworkPolicy') {
    const rules = isFields(object.spec) ? rulesOf(object.spec, 'egress') : [];
    return rules.some(({ action }) => action === 'Accept') ? [''] : [];
  }
  if (object.kind !== 'NetworkPolicy' || !isFields(object.spec)) return [];
  const rules = rulesOf(object.spec, 'egress');
  const allows = (rule: Fields): boolean => {
    const ports = itemsOf(rule, 'ports');
    return ports.length === 0 ? mayBeDns(rule) : ports.some(allowsDns);
  };
  return rules.some(allows) ? [object.namespace] : [];
}

/** A rule of all ports to pods or to every peer may include the DNS servers; one to addresses rarely does. */
function mayBeDns(rule: Fields): boolean {
  const peers = itemsOf(rule, 'to');
  return peers.length === 0 || peers.some((peer) => peer['ipBlock'] === undefined);
}

function allowsDns({ protocol, port, endPort }: Fields): boolean {
  if (protocol !== 'UDP') return false;
  if (typeof port !== 'number') return true;
  return port <= dnsPort && (typeof endPort === 'number' ? endPort : port) >= dnsPort;
}

function typesOf(spec: Fields): readonly unknown[] {
  const { policyTypes } = spec;
  if (Array.isArray(policyTypes) && policyTypes.length > 0) return policyTypes as unknown[];
  return rulesOf(spec, 'egress').length > 0 ? ['Ingress', 'Egress'] : ['Ingress'];
}

const rulesOf = (spec: Fields, section: 'ingress' | 'egress'): readonly Fields[] =>
  itemsOf(spec, section);

function itemsOf(fields: Fields, name: string): readonly Fields[] {
  const value = fields[name];
  return Array.isArray(value) ? (value as unknown[]).filter(isFields) : [];
}
