// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * NetworkPolicies as compiled, against a reading of the same objects that follows the words of their API type by type and
 * knows no selector, class or prefix of ours: for random policies and packets both must agree.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  address,
  compileObjects,
  namespace,
  nodeObject,
  prefix,
  type Raw,
} from '../../../test/cluster-fixture.ts';
import { Kernel } from '../../../test/kernel-fixture.ts';
import { prefixContains } from '../../net/ip.ts';

type Labels = Readonly<Record<string, string>>;

interface Host {
  readonly ip: string;
  /** Absent: no pod. */
  readonly pod?: {
    readonly namespace: string;
    readonly labels: Labels;
    readonly ports: Readonly<Record<string, number>>;
    readonly isLocal: boolean;
  };
}

const namespaces: Readonly<Record<string, Labels>> = {
  a: { team: 'one', 'kubernetes.io/metadata.name': 'a', 'x.beta.kubernetes.io/zone': '1' },
  b: { team: 'two', 'kubernetes.io/metadata.name': 'b' },
};
const host = (
  ip: string,
  ns: string,
  labels: Labels,
  ports: Readonly<Record<string, number>>,
  isLocal = true,
): Host => ({
  ip,
  pod: { namespace: ns, labels, ports, isLocal },
});
const hosts: readonly Host[] = [
  host(
    '10.244.0.2',
    'a',
    { app: 'x', 'pod-template-hash': '1', 'io.cilium.k8s.policy.cluster': 'own' },
    { http: 80 },
  ),
  host('10.244.0.3', 'a', { app: 'y' }, { http: 8080, dns: 53 }),
  host('10.244.0.4', 'b', { app: 'x' }, { http: 80 }),
  host('10.244.1.2', 'a', { app: 'y' }, { http: 81 }, false),
  host('10.244.1.3', 'b', { app: 'x', 'pod-template-hash': '2' }, {}, false),
  { ip: '192.168.0.2' },
  { ip: '198.51.100.7' },
  { ip: '198.51.100.200' },
];
const locals = hosts.filter(({ pod }) => pod?.isLocal === true);

const objects: readonly Raw[] = [
  ...Object.entries(namespaces).map(([name, labels]) => namespace(name, labels)),
  nodeObject('one', '192.168.0.1', '10.244.0.0/24'),
  nodeObject('two', '192.168.0.2', '10.244.1.0/24'),
  ...hosts.flatMap(({ ip, pod }, index): Raw[] =>
    pod === undefined
      ? []
      : [
          {
            ...{ apiVersion: 'v1', kind: 'Pod' },
            metadata: { name: `p${index}`, namespace: pod.namespace, labels: pod.labels },
            spec: {
              nodeName: pod.isLocal ? 'one' : 'two',
              containers: [
                {
                  ports: Object.entries(pod.ports).map(([name, containerPort]) => ({
                    ...{ name, containerPort, protocol: name === 'dns' ? 'UDP' : 'TCP' },
                  })),
                },
              ],
            },
            status: { podIPs: [{ ip }] },
          },
        ],
  ),
];

/* ---- random policies ---- */

const pick = <T>(...values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
const selector = fc.oneof(
  fc.constant({}),
  pick(
    { matchLabels: { app: 'x' } },
    { matchLabels: { app: 'y' } },
    { matchLabels: { 'pod-template-hash': '1' } },
    { matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['x'] }] },
    { matchLabels: { 'io.cilium.k8s.policy.cluster': 'own' } },
    { matchExpressions: [{ key: 'io.kubernetes.pod.namespace', operator: 'DoesNotExist' }] },
    { matchExpressions: [{ key: 'pod-template-hash', operator: 'DoesNotExist' }] },
  ),
);
const namespaceSelector = pick<Raw>(
  {},
  { matchLabels: { team: 'one' } },
  { matchLabels: { 'x.beta.kubernetes.io/zone': '1' } },
  { matchExpressions: [{ key: 'x.beta.kubernetes.io/zone', operator: 'DoesNotExist' }] },
  { matchLabels: { 'kubernetes.io/metadata.name': 'b' } },
  { matchExpressions: [{ key: 'team', operator: 'NotIn', values: ['one'] }] },
);
const peer = fc.oneof(
  fc.record({ podSelector: selector }),
  fc.record({ namespaceSelector }),
  fc.record({ podSelector: selector, namespaceSelector }),
  pick<Raw>(
    { ipBlock: { cidr: '198.51.100.0/24', except: ['198.51.100.128/25'] } },
    { ipBlock: { cidr: '10.244.0.0/16' } },
    { ipBlock: { cidr: '10.244.1.2/32' } },
    { ipBlock: { cidr: '0.0.0.0/0', except: ['10.244.0.0/24', '192.168.0.0/16'] } },
  ),
);
const port = pick<Raw>(
  { port: 80 },
  { port: 80, endPort: 8080 },
  { port: 'http' },
  { port: 'dns', protocol: 'UDP' },
  { protocol: 'UDP' },
  { port: 53, protocol: 'UDP' },
  { protocol: 'SCTP', port: 80 },
);
const rule = (own: 'from' | 'to'): fc.Arbitrary<Raw> =>
  fc.record(
    { [own]: fc.array(peer, { maxLength: 2 }), ports: fc.array(port, { maxLength: 2 }) },
    { requiredKeys: [] },
  );
const policy = fc.record({
  namespace: pick('a', 'b'),
  spec: fc.record(
    {
      podSelector: selector,
      policyTypes: pick(['Ingress'], ['Egress'], ['Ingress', 'Egress'], []),
      ingress: fc.array(rule('from'), { maxLength: 2 }),
      egress: fc.array(rule('to'), { maxLength: 2 }),
    },
    { requiredKeys: ['podSelector'] },
  ),
});
type RandomPolicy = typeof policy extends fc.Arbitrary<infer T> ? T : never;
const packet = fc.record({
  local: pick(...locals),
  other: pick(...hosts),
  direction: pick('ingress' as const, 'egress' as const),
  protocol: pick(6, 17, 132, 1),
  port: pick(53, 79, 80, 81, 8080, 8081),
});

/* ---- the words of the API ---- */

const list = (value: unknown): readonly Raw[] => (Array.isArray(value) ? (value as Raw[]) : []);

function selects(labels: Labels, given: Raw | undefined): boolean {
  const { matchLabels = {}, matchExpressions } = given ?? {};
  const areEqual = Object.entries(matchLabels as Labels).every(
    ([key, value]) => labels[key] === value,
  );
  return (
    areEqual &&
    list(matchExpressions).every(({ key, operator, values }) => {
      const value = labels[key as string];
      if (operator === 'DoesNotExist') return value === undefined;
      return operator === 'NotIn' && !(values as readonly unknown[]).includes(value);
    })
  );
}

function isPeer(other: Host, given: Raw, ownNamespace: string): boolean {
  const { podSelector, namespaceSelector: ofNamespaces, ipBlock } = given;
  if (ipBlock !== undefined) {
    const { cidr, except } = ipBlock as { cidr: string; except?: readonly string[] };
    const isIn = (text: string): boolean => prefixContains(prefix(text), address(other.ip));
    return isIn(cidr) && !(except ?? []).some(isIn);
  }
  const { pod } = other;
  if (pod === undefined) return false;
  const isThere =
    ofNamespaces === undefined
      ? pod.namespace === ownNamespace
      : selects(namespaces[pod.namespace] ?? {}, ofNamespaces as Raw);
  return isThere && selects(pod.labels, podSelector as Raw | undefined);
}

const protocolNames: Readonly<Record<number, string>> = { 6: 'TCP', 17: 'UDP', 132: 'SCTP' };

function isPort(given: Raw, protocol: number, number: number, target: Host): boolean {
  const { port: wanted, endPort, protocol: name = 'TCP' } = given;
  if (protocolNames[protocol] !== name) return false;
  if (wanted === undefined) return true;
  if (typeof wanted === 'number') {
    return number >= wanted && number <= (typeof endPort === 'number' ? endPort : wanted);
  }
  const isDeclared = (wanted === 'dns') === (name === 'UDP');
  return isDeclared && target.pod?.ports[wanted as string] === number;
}

function allows(
  policies: readonly RandomPolicy[],
  sent: typeof packet extends fc.Arbitrary<infer T> ? T : never,
): boolean {
  const { local, other, direction, protocol, port: number } = sent;
  const own = local.pod;
  assert.ok(own !== undefined);
  const target = direction === 'ingress' ? local : other;
  const applying = policies.filter(({ namespace: ns, spec }) => {
    const { podSelector, policyTypes = [], egress = [] } = spec;
    const types =
      policyTypes.length > 0
        ? policyTypes
        : egress.length > 0
          ? ['Ingress', 'Egress']
          : ['Ingress'];
    const isTyped = types.includes(direction === 'ingress' ? 'Ingress' : 'Egress');
    return ns === own.namespace && selects(own.labels, podSelector as Raw) && isTyped;
  });
  if (applying.length === 0) return true;
  return applying.some(({ namespace: ns, spec }) =>
    list(direction === 'ingress' ? spec.ingress : spec.egress).some((given) => {
      const peers = list(direction === 'ingress' ? given['from'] : given['to']);
      const ports = list(given['ports']);
      const isThere = peers.length === 0 || peers.some((each) => isPeer(other, each, ns));
      return (
        isThere &&
        (ports.length === 0 || ports.some((each) => isPort(each, protocol, number, target)))
      );
    }),
  );
}

test('what is compiled is what the objects say', () => {
  const runs = fc.property(
    fc.array(policy, { maxLength: 4 }),
    fc.array(packet, { minLength: 1, maxLength: 30 }),
    (policies, packets) => {
      const compiled = compileObjects([
        ...objects,
        ...policies.map(({ namespace: ns, spec }, index) => ({
          ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
          metadata: { name: `np-${index}`, namespace: ns },
          spec,
        })),
      ]);
      assert.deepEqual(
        compiled.diagnostics.filter(({ severity }) => severity === 'error'),
        [],
      );
      const kernel = new Kernel(compiled, [compiled]);
      for (const sent of packets) {
        const { local, other, direction, protocol, port: number } = sent;
        const answer = kernel.judge(
          local.ip,
          { direction, peer: other.ip, protocol, port: protocol === 1 ? 0 : number },
          compiled,
        );
        const label = JSON.stringify({ sent, policies });
        assert.equal(answer === 'allow', allows(policies, sent), label);
      }
    },
  );
  fc.assert(runs, { seed: Number(process.env['TANDEM_FUZZ_SEED'] ?? 20261129), numRuns: 500 });
});
