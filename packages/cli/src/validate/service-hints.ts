// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * NetworkPolicies that name a Service where policy sees its pods: the port of the Service in place of that of the pods, and its
 * ClusterIP in an ipBlock. Policy applies after a Service is resolved. Only Services of the files are known.
 */

import type { K8sObject, PolicyObject, Service } from '@tandem/core/k8s/objects';
import { type Fields, isFields } from '@tandem/core/k8s/shape';
import { type Prefix, parsePrefix, prefixContains } from '@tandem/core/net/ip';
import type { Hint } from './network-policy-hints.ts';

export class ServiceHints {
  readonly #services: readonly Service[];

  constructor(objects: readonly K8sObject[]) {
    this.#services = objects.filter((object): object is Service => object.kind === 'Service');
  }

  of({ kind, spec, namespace }: PolicyObject): readonly Hint[] {
    if (kind !== 'NetworkPolicy' || !isFields(spec)) return [];
    const own = this.#services.filter((service) => service.namespace === namespace);
    const { podSelector } = spec;
    const selected = own.filter(({ selector }) => selects(podSelector, selector));
    return [
      ...portHints(listOf(spec, 'ingress'), selected),
      ...this.#blockHints(listOf(spec, 'egress')),
    ];
  }

  #blockHints(rules: readonly Fields[]): readonly Hint[] {
    return rules.flatMap((rule, at) =>
      listOf(rule, 'to').flatMap(({ ipBlock }, index): readonly Hint[] => {
        const cidr =
          isFields(ipBlock) && typeof ipBlock['cidr'] === 'string' ? ipBlock['cidr'] : '';
        const prefix = parsePrefix(cidr);
        const found =
          prefix === null ? undefined : this.#services.find((each) => isOnly(prefix, each));
        if (found === undefined) return [];
        const message = `is the ClusterIP of Service ${found.namespace}/${found.name}, and policy applies to the pods behind it: select them with podSelector and namespaceSelector, unless a cache on the node has this address`;
        return [{ path: `spec.egress[${at}].to[${index}].ipBlock.cidr`, message }];
      }),
    );
  }
}

/** A rule that allows the port of a Service, while none allows the port of its pods. */
function portHints(rules: readonly Fields[], services: readonly Service[]): readonly Hint[] {
  const ports = rules.flatMap((rule, at) =>
    listOf(rule, 'ports').map((each, index) => ({
      each,
      path: `spec.ingress[${at}].ports[${index}]`,
    })),
  );
  if (rules.some((rule) => listOf(rule, 'ports').length === 0)) return [];
  return ports.flatMap(({ each, path }): readonly Hint[] => {
    for (const service of services) {
      for (const { port, targetPort, protocol } of service.ports) {
        if (targetPort === 0 || targetPort === port || !isExactly(each, protocol, port)) continue;
        if (ports.some((other) => covers(other.each, protocol, targetPort))) continue;
        const message = `${port} is the port of Service ${service.name}, and policy applies to its pods: write their port ${targetPort}`;
        return [{ path: `${path}.port`, message }];
      }
    }
    return [];
  });
}

const isExactly = (
  { port, endPort, protocol = 'TCP' }: Fields,
  name: string,
  number: number,
): boolean => port === number && endPort === undefined && protocol === name;

/** A port by its name may be any. */
function covers(
  { port, endPort, protocol = 'TCP' }: Fields,
  name: string,
  number: number,
): boolean {
  if (protocol !== name) return false;
  if (typeof port !== 'number') return true;
  return port <= number && number <= (typeof endPort === 'number' ? endPort : port);
}

/** Whether the selector, by its matchLabels alone, selects every pod with these labels. */
function selects(selector: unknown, labels: ReadonlyMap<string, string>): boolean {
  if (!isFields(selector) || labels.size === 0 || 'matchExpressions' in selector) return false;
  const { matchLabels = {} } = selector;
  return (
    isFields(matchLabels) &&
    Object.entries(matchLabels).every(([name, value]) => labels.get(name) === value)
  );
}

/** A wider prefix is seldom written for a Service. */
function isOnly(prefix: Prefix, { clusterIps }: Service): boolean {
  return prefix.bits === 128 && clusterIps.some((each) => prefixContains(prefix, each));
}

function listOf(fields: Fields, name: string): readonly Fields[] {
  const value = fields[name];
  return Array.isArray(value) ? value.filter(isFields) : [];
}
