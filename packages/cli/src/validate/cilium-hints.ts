// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Policies of Cilium's kinds that are valid and say something else than most who write so mean. Only `tandem policy validate`
 * says this: in a cluster each of these may be meant. What depends on other objects is said where the files hold them.
 */

import { patternsOverlap } from '@tandem/core/dns/pattern-overlap';
import type { K8sObject, PolicyObject } from '@tandem/core/k8s/objects';
import { type Fields, isFields } from '@tandem/core/k8s/shape';
import { type Prefix, prefixCovers } from '@tandem/core/net/ip';
import { Direction } from '@tandem/core/policy/model/kernel-numbers';
import type { DnsNames, Policy, PolicyRule, PolicySpec } from '@tandem/core/policy/model/rule';
import { selectorKey } from '@tandem/core/policy/model/selector';
import { parsePolicy } from '@tandem/core/policy/parse/parse-policy';
import { clusterAddresses, type KnownAddresses } from './known-addresses.ts';
import type { Hint } from './network-policy-hints.ts';
import { starHints } from './pattern-hints.ts';

const dnsPort = 53;
/** Labels of the DNS servers that distributions of Kubernetes bring, all of them in this namespace. */
const dnsNamespace = 'kube-system';
const dnsLabels: readonly string[] = ['kube-dns', 'coredns', 'node-local-dns', 'nodelocaldns'];
const namespaceKeys = /io\.kubernetes\.pod\.namespace|io\.cilium\.k8s\.namespace\.labels\./;
const meansDeny = /deny|default|isolat|lock|block|quarantine/i;
const clusterNames = /(^|\.)svc\.[-a-z0-9.]+\.$|\.cluster\.local\.$/;

type Section = 'ingress' | 'egress';
const sections: readonly Section[] = ['ingress', 'egress'];

/** Hints for the valid objects of one set of files. */
export class CiliumHints {
  readonly #policies: readonly Policy[];
  readonly #addresses: KnownAddresses;

  constructor(objects: readonly K8sObject[]) {
    this.#policies = objects.flatMap((object) => {
      if (!isOfCilium(object)) return [];
      const parsed = parsePolicy(object);
      return parsed.ok ? [parsed.value] : [];
    });
    this.#addresses = clusterAddresses(objects);
  }

  of(object: PolicyObject): readonly Hint[] {
    if (!isOfCilium(object)) return [];
    const parsed = parsePolicy(object);
    if (!parsed.ok) return [];
    const bodies = bodiesOf(object);
    return [
      ...parsed.value.specs.flatMap((spec, index) => {
        const [path, body] = bodies[index] ?? ['spec', {}];
        return [
          ...emptyRuleHints(object.name, path, body),
          ...splitHints(path, body),
          ...starHints(path, body),
          ...dnsPeerHints(object.namespace, path, body),
          ...denyAloneHints(spec, path, body, this.#allows(parsed.value)),
          ...coveredHints(spec),
          ...tcpHints(spec),
          ...this.#nameHints(parsed.value, spec),
          ...this.#lookupHints(parsed.value, spec),
          ...this.#cidrHints(spec),
        ];
      }),
    ];
  }

  /** Whether another policy of the files that may select the same pods allows something in `direction`. */
  #allows(own: Policy): (direction: Direction) => boolean {
    return (direction) =>
      this.#near(own)
        .filter((policy) => policy !== own && policy.ref.name !== own.ref.name)
        .flatMap(({ specs }) => specs)
        .flatMap(({ rules }) => rules)
        .some((rule) => rule.direction === direction && rule.action === 'allow');
  }

  /** Policies that may select pods that `own` selects. */
  #near({ ref }: Policy): readonly Policy[] {
    const { namespace } = ref;
    return this.#policies.filter(
      (policy) =>
        namespace === '' || policy.ref.namespace === '' || policy.ref.namespace === namespace,
    );
  }

  #nameHints(own: Policy, spec: PolicySpec): readonly Hint[] {
    const byName = spec.rules.filter(({ fqdns }) => fqdns.length > 0);
    if (byName.length === 0) return [];
    const near = this.#near(own)
      .flatMap(({ specs }) => specs)
      .flatMap(({ rules }) => rules)
      .filter(isDnsRule);
    // Of several policies for other pods of the namespace one may be meant: what this selector has itself is sure.
    const here = this.#near(own)
      .flatMap(({ specs }) => specs)
      .filter(({ subject }) => selectorKey(subject) === selectorKey(spec.subject))
      .flatMap(({ rules }) => rules)
      .filter(isDnsRule);
    const asked = (here.length > 0 ? here : near).flatMap(dnsOf);
    return byName.flatMap(({ path, fqdns }): readonly Hint[] => {
      const at = `${path}.toFQDNs`;
      const inCluster = fqdns.filter(({ text }) => clusterNames.test(text));
      const hints: Hint[] = inCluster.map(({ text }) => ({
        path: at,
        message: `${quoted(text)} is a name of the cluster: addresses of pods and Services are never learned, so it allows nothing. Select the pods with toEndpoints`,
      }));
      if (near.length === 0) {
        const message = `needs a rule that says which names may be queried, and no policy of these files has one for these pods: addresses are learned from queries that a DNS rule allows. Add toEndpoints of the DNS pods with toPorts 53 and rules.dns`;
        return [...hints, { path: at, message }];
      }
      if (asked.some(({ matchAll }) => matchAll)) return hints;
      const patterns = asked.flatMap((names) => names.patterns);
      const refused = fqdns.filter(
        (pattern) => !patterns.some((each) => patternsOverlap(each, pattern)),
      );
      return [
        ...hints,
        ...refused.map(({ text }) => ({
          path: at,
          message: `${quoted(text)} is in no rules.dns of these pods: its queries are refused, so its addresses are never learned. Name it in rules.dns too`,
        })),
      ];
    });
  }

  /** Names that resolve, and nothing that they lead to. */
  #lookupHints(own: Policy, spec: PolicySpec): readonly Hint[] {
    const rule = allowed(spec).find(isDnsRule);
    if (rule === undefined || !spec.denyEgress) return [];
    const connects = ({ direction, action, ports }: PolicyRule): boolean =>
      direction === Direction.egress &&
      action === 'allow' &&
      (ports === 'any' || ports.some(({ dns }) => dns === null));
    const near = this.#near(own).flatMap(({ specs }) => specs);
    if (near.some(({ rules }) => rules.some(connects))) return [];
    const message =
      'allows queries of these pods, and no policy of these files allows connections to the addresses of the names: add toFQDNs';
    return [{ path: rule.path, message }];
  }

  #cidrHints(spec: PolicySpec): readonly Hint[] {
    const { nodes, pods, services } = this.#addresses;
    const known = [
      [pods, 'pods, which no CIDR selects', 'toEndpoints'],
      [nodes, 'nodes, which no CIDR selects', 'toEntities: [host, remote-node]'],
      [services, 'a Service, which is translated before policy applies', 'toEndpoints of its pods'],
    ] as const;
    return allowed(spec).flatMap(({ path, peers, direction }) =>
      cidrsOf(peers).flatMap((cidr) =>
        known
          .filter(([prefixes]) => prefixes.some((prefix) => prefixCovers(prefix, cidr)))
          .map(([, what, instead]) => ({
            path,
            message: `names addresses of ${what}, so it allows nothing there: use ${direction === Direction.egress ? instead : instead.replace('to', 'from')}`,
          })),
      ),
    );
  }
}

const isOfCilium = (object: K8sObject): object is PolicyObject =>
  object.kind === 'CiliumNetworkPolicy' || object.kind === 'CiliumClusterwideNetworkPolicy';

/** The spec, and each of the specs, with its path, as the parser takes them. */
function bodiesOf({ spec, specs }: PolicyObject): readonly (readonly [string, Fields])[] {
  const own = isFields(spec) ? [['spec', spec] as const] : [];
  const more = Array.isArray(specs) ? (specs as unknown[]) : [];
  return [
    ...own,
    ...more.flatMap((body, index) => (isFields(body) ? [[`specs[${index}]`, body] as const] : [])),
  ];
}

function itemsOf(fields: Fields, name: string): readonly Fields[] {
  const value = fields[name];
  return Array.isArray(value) ? (value as unknown[]).filter(isFields) : [];
}

const quoted = (pattern: string): string => JSON.stringify(pattern.replace(/(.)\.$/, '$1'));
const isDnsRule = (rule: PolicyRule): boolean => dnsOf(rule).length > 0;
const dnsOf = ({ ports }: PolicyRule): readonly DnsNames[] =>
  ports === 'any' ? [] : ports.flatMap(({ dns }) => (dns === null ? [] : [dns]));
const allowed = ({ rules }: PolicySpec): readonly PolicyRule[] =>
  rules.filter(({ action }) => action === 'allow');
const cidrsOf = (peers: PolicyRule['peers']): readonly Prefix[] =>
  peers === 'any' ? [] : peers.flatMap((peer) => (peer.kind === 'cidr' ? [peer.cidr] : []));

/** `- {}` is what allows all in a NetworkPolicy; here it is default deny alone. */
function emptyRuleHints(name: string, path: string, body: Fields): readonly Hint[] {
  // In both directions it is what Cilium's own docs write for default deny.
  const isBoth = sections.every((section) => JSON.stringify(body[section]) === '[{}]');
  return sections.flatMap((section) => {
    const rules = itemsOf(body, section);
    const index = rules.findIndex((rule) => Object.keys(rule).length === 0);
    const isDeny = rules.length === 1 && (meansDeny.test(name) || isBoth);
    if (index < 0 || isDeny) return [];
    const peers = section === 'egress' ? 'toEntities' : 'fromEntities';
    const message = `{} allows nothing (in a NetworkPolicy it would allow all): write ${peers}: [all] to allow all, or keep it if default deny is intended`;
    return [{ path: `${path}.${section}[${index}]`, message }];
  });
}

/** A dash too many: peers without ports, and the ports in an item of their own. */
function splitHints(path: string, body: Fields): readonly Hint[] {
  return sections.flatMap((section) => {
    const rules = itemsOf(body, section);
    return rules.flatMap((rule, index): readonly Hint[] => {
      const next = rules[index + 1];
      const hasPeers = Object.keys(rule).some((field) => /^(to|from)(?!Ports$)/.test(field));
      if (next === undefined || !hasPeers || 'toPorts' in rule) return [];
      if (Object.keys(next).length !== 1 || itemsOf(next, 'toPorts').length === 0) return [];
      const message = `allows these peers every port, and ${section}[${index + 1}] every peer its ports: for both at once write them in one item, without the dash before toPorts`;
      return [{ path: `${path}.${section}[${index}]`, message }];
    });
  });
}

/** The cluster's DNS servers by their labels alone, in a policy of another namespace. */
function dnsPeerHints(namespace: string, path: string, body: Fields): readonly Hint[] {
  if (namespace === '' || namespace === dnsNamespace) return [];
  return itemsOf(body, 'egress').flatMap((rule, index) =>
    itemsOf(rule, 'toEndpoints').flatMap((selector, at): readonly Hint[] => {
      const { matchLabels } = selector;
      const labels = isFields(matchLabels) ? matchLabels : {};
      const isDns = Object.values(labels).some((value) => dnsLabels.includes(String(value)));
      if (!isDns || namespaceKeys.test(JSON.stringify(selector))) return [];
      const message = `selects pods of namespace ${namespace} alone, and the cluster's DNS servers are in ${dnsNamespace}: add k8s:io.kubernetes.pod.namespace: ${dnsNamespace}`;
      return [{ path: `${path}.egress[${index}].toEndpoints[${at}]`, message }];
    }),
  );
}

/** A deny section switches to default deny, as an allow section does. */
function denyAloneHints(
  spec: PolicySpec,
  path: string,
  body: Fields,
  isAllowedElsewhere: (direction: Direction) => boolean,
): readonly Hint[] {
  return sections.flatMap((section): readonly Hint[] => {
    const direction = section === 'egress' ? Direction.egress : Direction.ingress;
    const isDenying = section === 'egress' ? spec.denyEgress : spec.denyIngress;
    const wish = body['enableDefaultDeny'];
    const isSaid = isFields(wish) && section in wish;
    const hasAllow = Array.isArray(body[section]) && (body[section] as unknown[]).length > 0;
    if (!isDenying || isSaid || hasAllow || !Array.isArray(body[`${section}Deny`])) return [];
    if (isAllowedElsewhere(direction)) return [];
    const message = `denies all other ${section} of these pods too, as no policy of these files allows any: to deny this alone write enableDefaultDeny: {${section}: false}`;
    return [{ path: `${path}.${section}Deny`, message }];
  });
}

/** An exception from a deny rule is none: deny wins. */
function coveredHints(spec: PolicySpec): readonly Hint[] {
  const denied = spec.rules.filter(({ action, ports }) => action === 'deny' && ports === 'any');
  return allowed(spec).flatMap((rule) => {
    const cidrs = cidrsOf(rule.peers);
    const wider = denied
      .filter(({ direction }) => direction === rule.direction)
      .flatMap(({ peers }) => (peers === 'any' ? [] : peers));
    const isCovered = cidrs.some((cidr) =>
      wider.some(
        (peer) =>
          peer.kind === 'cidr' &&
          prefixCovers(peer.cidr, cidr) &&
          !peer.except.some((hole) => prefixCovers(hole, cidr)),
      ),
    );
    if (!isCovered) return [];
    const message =
      'allows addresses that a deny rule of this policy covers, and deny wins: take them out of it with toCIDRSet and except';
    return [{ path: rule.path, message }];
  });
}

/** Long answers come over TCP. */
function tcpHints(spec: PolicySpec): readonly Hint[] {
  return allowed(spec).flatMap((rule) => {
    if (rule.ports === 'any') return [];
    const ranges = rule.ports.filter(({ dns }) => dns !== null).flatMap(({ ports }) => ports);
    const takes = (protocol: number): boolean =>
      ranges.some(
        (range) => range.protocol === protocol && range.first <= dnsPort && range.last >= dnsPort,
      );
    const [udp, tcp] = [takes(17), takes(6)];
    if (udp === tcp) return [];
    const message = udp
      ? 'allows DNS over UDP alone: clients repeat a query over TCP when the answer is truncated. Write protocol: ANY'
      : 'allows DNS over TCP alone: clients query over UDP first. Write protocol: ANY';
    return [{ path: `${rule.path}.toPorts`, message }];
  });
}
