// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The small world that schedules play in: pods, names, the addresses they really have, and some policies over them. The
 * Kubernetes objects that say so are in universe-objects.ts, what the compiler makes of them in universe-policies.ts.
 */

import { nameFromText } from '@tandem/core/dns/name';
import { parseAddress } from '@tandem/core/net/ip';

export const address = (text: string): Uint8Array => {
  const bytes = parseAddress(text);
  if (bytes === null) throw new TypeError(text);
  return bytes;
};
/** As the query path has them: four words in memory order. */
const wordsOf = (bytes: Uint8Array): Uint32Array => new Uint32Array(bytes.slice().buffer);

/** The cluster's resolver, whose answers count for everybody, and one whose answers do not. */
export const servers = ['10.96.0.10', '9.9.9.9'] as const;
export const serverWords: readonly Uint32Array[] = servers.map((text) => wordsOf(address(text)));

export interface SimPod {
  readonly name: string;
  readonly namespace: string;
  readonly ip: string;
  readonly words: Uint32Array;
}
export const pods: readonly SimPod[] = [
  ['web', 'shop', '10.1.0.10'],
  ['api', 'shop', '10.1.0.11'],
  ['job', 'lab', '10.1.0.12'],
].map(([name = '', namespace = '', ip = '']) => ({
  name,
  namespace,
  ip,
  words: wordsOf(address(ip)),
}));

export interface SimName {
  readonly text: string;
  readonly wire: Uint8Array;
  /** A query for its address, id 0. */
  readonly query: Uint8Array;
  /** All addresses that it ever has, IPv4, as the fourth word. */
  readonly hosts: readonly number[];
}

const hostWord = (host: number): number =>
  new Uint32Array(Uint8Array.of(203, 0, 113, host).buffer)[0]!;
/** Last octet of an address that several names have. */
const sharedHost = 200;
/** 10.96.0.99: an address of the cluster, which one name points to. */
export const clusterWord: number = new Uint32Array(Uint8Array.of(10, 96, 0, 99).buffer)[0]!;

export const names: readonly SimName[] = [
  ...['a.one.test', 'b.one.test', 'c.one.test', 'a.two.test', 'b.two.test', 'a.three.test'],
  ...['b.three.test', 'evil.test', 'rebind.one.test'],
].map((text, index) => {
  const wire = nameFromText(text) as Uint8Array;
  const query = new Uint8Array(12 + wire.length + 4);
  query.set([0, 0, 1, 0, 0, 1]);
  query.set(wire, 12);
  query.set([0, 1, 0, 1], 12 + wire.length);
  const hosts = [hostWord(10 + index * 2), hostWord(11 + index * 2), hostWord(sharedHost)];
  if (text.startsWith('rebind')) hosts.push(clusterWord);
  return { text, wire, query, hosts };
});

/** Per pod: names that may be asked, by server, and names whose addresses may be connected to. */
export interface PodRules {
  readonly asks: readonly (readonly string[])[];
  readonly connects: readonly string[];
}
const one = '*.one.test';
const two = '*.two.test';
const three = '*.three.test';
const none = [[], []];
export const variants: readonly (readonly PodRules[])[] = [
  [
    { asks: [[one], []], connects: [one] },
    { asks: [[one, two], []], connects: [two] },
    { asks: [[one], [three]], connects: [one, three] },
  ],
  [
    { asks: [[two], []], connects: [two] },
    { asks: [[one, two], []], connects: [one, 'a.two.test'] },
    { asks: [[], [three, two]], connects: [three, two] },
  ],
  [
    { asks: [['a.one.test', two], []], connects: ['a.one.test', two] },
    { asks: none, connects: [] },
    { asks: [[one], [three]], connects: [one, 'a.three.test'] },
  ],
  [
    { asks: [[one, two, three], []], connects: [one, two, three] },
    { asks: [['b.one.test'], []], connects: [one] },
    { asks: [[one, three], []], connects: [three] },
  ],
];
export const variantCount: number = variants.length;

export const matches = (pattern: string, name: string): boolean =>
  pattern.startsWith('*.')
    ? name.endsWith(pattern.slice(1)) && !name.slice(0, 1 - pattern.length).includes('.')
    : pattern === name;

const allowedTable: readonly Uint8Array[] = variants.map((rules) =>
  Uint8Array.from(
    pods.flatMap((_, pod) =>
      servers.flatMap((_s, server) =>
        names.map(({ text }) =>
          (rules[pod] as PodRules).asks[server]?.some((pattern) => matches(pattern, text)) === true
            ? 1
            : 0,
        ),
      ),
    ),
  ),
);
/** Whether a policy lets a pod ask a server for a name; worked out without the product's matcher. */
export function isAllowed(variant: number, pod: number, server: number, name: number): boolean {
  const table = allowedTable[variant] as Uint8Array;
  return table[(pod * servers.length + server) * names.length + name] === 1;
}
/** A server that the policy has no rule for is not steered to us at all. */
export function isSteered(variant: number, pod: number, server: number): boolean {
  const rules = (variants[variant] as readonly PodRules[])[pod] as PodRules;
  return (rules.asks[server] as readonly string[]).length > 0;
}
