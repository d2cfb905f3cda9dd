// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Verdict of a policy on one DNS server: the names that a pod may ask it for. As in Cilium, all rules for the server's
 * identity, port and protocol together: the union of their names; every name, if a plain allow names exactly this port as
 * well (Cilium PR #8106); a plain allow that is wider (no ports, or a range) does not lift the names, because a redirect
 * beats it. Before all that, the tiers decide which rules count (tiers.ts).
 */

import type { Pattern } from '../../dns/pattern.ts';
import { Direction, type Protocol, Verdict } from '../model/kernel-numbers.ts';
import type { Statement } from '../model/policy-set.ts';
import { deciding, isOrdered } from '../model/tiers.ts';

/** Names that may be asked. `patterns` by text, empty if `matchAll`. */
export interface NameSet {
  readonly matchAll: boolean;
  readonly patterns: ReadonlyMap<string, Pattern>;
}

export type ServerVerdict =
  | { readonly kind: 'none' | 'plain' | 'deny' }
  | { readonly kind: 'names'; readonly names: NameSet };

/** No name: every query is refused. */
export const noNames: NameSet = { matchAll: false, patterns: new Map() };
/** Every name. */
export const allNames: NameSet = { matchAll: true, patterns: new Map() };

const none: ServerVerdict = { kind: 'none' };
const plain: ServerVerdict = { kind: 'plain' };
const deny: ServerVerdict = { kind: 'deny' };

/**
 * Whom a question is about: a class by its selectors, an address that has more of them than its class, or
 * 'other', whom only rules for every peer cover. Equal ids have equal selectors.
 */
export type Who =
  | { readonly id: number | string; readonly selectors: ReadonlySet<string> }
  | 'other';

/** The egress statements of one policy, asked about servers; remembers its answers. */
export class DnsJudge {
  readonly #egress: readonly Statement[];
  readonly #answers = new Map<string, ServerVerdict>();

  constructor(statements: readonly Statement[]) {
    this.#egress = statements.filter(({ direction }) => direction === Direction.egress);
  }

  judge(who: Who, protocol: Protocol, port: number): ServerVerdict {
    const key = `${who === 'other' ? -1 : who.id} ${protocol} ${port}`;
    let answer = this.#answers.get(key);
    if (answer === undefined) {
      answer = this.#judge(who, protocol, port);
      this.#answers.set(key, answer);
    }
    return answer;
  }

  #judge(who: Who, protocol: Protocol, port: number): ServerVerdict {
    const all = this.#egress.filter(
      (statement) => coversPeer(statement, who) && coversPort(statement, protocol, port),
    );
    const holding = deciding(all);
    const [first] = holding;
    // Of a server that other tiers filter by name, an Accept lifts the names; the members still see the queries, so that toFQDNs learns.
    if (first !== undefined && isOrdered(first) && first.verdict === Verdict.allow)
      return all.some(({ names }) => names !== null) ? { kind: 'names', names: allNames } : plain;
    if (holding.some(({ verdict }) => verdict === Verdict.deny)) return deny;
    const lists = holding.flatMap(({ names }) => (names === null ? [] : [names]));
    if (lists.length === 0) return holding.length === 0 ? none : plain;
    const isLifted = holding.some(
      (statement) => statement.names === null && namesExactly(statement, protocol, port),
    );
    if (isLifted || lists.some(({ matchAll }) => matchAll))
      return { kind: 'names', names: allNames };
    const patterns = new Map<string, Pattern>();
    for (const list of lists)
      for (const pattern of list.patterns) patterns.set(pattern.text, pattern);
    return { kind: 'names', names: { matchAll: false, patterns } };
  }
}

/** True when the statement's peers select the server. */
export function coversPeer({ peers, fqdns }: Statement, who: Who): boolean {
  if (peers === 'any') return fqdns.length === 0;
  return who !== 'other' && peers.some((key) => who.selectors.has(key));
}

export function coversPort(
  { ports }: Pick<Statement, 'ports'>,
  protocol: Protocol,
  port: number,
): boolean {
  if (ports === 'any') return true;
  return ports.some(
    (range) => range.protocol === protocol && range.first <= port && port <= range.last,
  );
}

/** A single port, not a range or a wildcard that holds it. */
export function namesExactly({ ports }: Statement, protocol: Protocol, port: number): boolean {
  if (ports === 'any') return false;
  return ports.some(
    (range) => range.protocol === protocol && range.first === port && range.last === port,
  );
}

/** Names that both permit, as far as equal patterns show: never more than either permits. */
export function intersectNames(left: NameSet, right: NameSet): NameSet {
  if (left.matchAll) return right;
  if (right.matchAll) return left;
  const patterns = new Map([...left.patterns].filter(([text]) => right.patterns.has(text)));
  return { matchAll: false, patterns };
}

/** Names that either permits. */
export function uniteNames(left: NameSet, right: NameSet): NameSet {
  if (left.matchAll || right.matchAll) return allNames;
  return { matchAll: false, patterns: new Map([...left.patterns, ...right.patterns]) };
}

/** Canonical text of a set of names. */
export function namesContent({ matchAll, patterns }: NameSet): string {
  return matchAll ? '*' : JSON.stringify([...patterns.keys()].sort());
}
