// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Verdict of a policy on one DNS server: the names that a pod may ask it for. As in Cilium, all rules for the server's
 * identity, port and protocol together: the union of their names; every name, if a plain allow names exactly this port as
 * well (Cilium PR #8106); a plain allow that is wider (no ports, or a range) does not lift the names, because a redirect
 * beats it. Before all that, the tiers decide which rules count (tiers.ts).
 */

import { Direction, type Protocol, Verdict } from '../model/kernel-numbers.ts';
import type { Statement } from '../model/policy-set.ts';
import { deciding, isOrdered } from '../model/tiers.ts';
import { allNames, type NameSet, NameSets } from './name-sets.ts';
import { StatementIndex, type Who } from './statement-index.ts';

export type ServerVerdict =
  | { readonly kind: 'none' | 'plain' | 'deny' }
  | { readonly kind: 'names'; readonly names: NameSet };

const none: ServerVerdict = { kind: 'none' };
const plain: ServerVerdict = { kind: 'plain' };
const deny: ServerVerdict = { kind: 'deny' };

/** The egress statements of one policy, asked about servers; remembers its answers. */
export class DnsJudge {
  readonly #egress: StatementIndex;
  readonly #answers = new Map<string, ServerVerdict>();
  /** The names of its answers. */
  readonly names: NameSets;

  constructor(statements: readonly Statement[], namesMax?: number) {
    this.names = new NameSets(namesMax);
    const egress = statements.filter(({ direction }) => direction === Direction.egress);
    this.#egress = new StatementIndex(egress);
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
    const all = this.#egress
      .covering(who)
      .filter((statement) => coversPort(statement, protocol, port));
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
    return { kind: 'names', names: isLifted ? allNames : this.names.union(lists) };
  }
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
