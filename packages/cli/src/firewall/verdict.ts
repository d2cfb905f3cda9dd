// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Verdict of a firewall on a DNS packet of a pod: a walk through its chains, as the kernel does it. */

import type { Chain, DnsPacket, Rule } from '@tandem/agent/firewall/rule';
import { chainDepthMax } from '../limits.ts';

export interface Passage {
  readonly chain: Chain;
  readonly verdict: 'accept' | 'drop';
  /** The rule that dropped it; null: the policy of the chain. */
  readonly rule: Rule | null;
  /** Earlier rules that might accept it: they depend on facts that are not known here. */
  readonly maybe: readonly Rule[];
}

interface Walk {
  readonly end: 'accept' | 'drop' | 'return';
  readonly rule: Rule | null;
}

/** The packet at each base chain of a hook. */
export function passagesAt(
  hook: string,
  chains: readonly Chain[],
  packet: DnsPacket,
): readonly Passage[] {
  return chains
    .filter(({ filterHook, families }) => filterHook === hook && families.includes(packet.family))
    .map((chain) => {
      const maybe: Rule[] = [];
      const walked = walk(chain, chains, packet, maybe, 0);
      const verdict = walked.end === 'return' ? chain.policy : walked.end;
      return { chain, verdict, rule: walked.rule, maybe };
    });
}

function walk(
  chain: Chain,
  chains: readonly Chain[],
  packet: DnsPacket,
  maybe: Rule[],
  depth: number,
): Walk {
  if (depth > chainDepthMax) return { end: 'return', rule: null };
  for (const rule of chain.rules) {
    const isMatch = rule.matches(packet);
    const { verdict } = rule;
    if (isMatch === false || verdict.kind === 'none') continue;
    if (verdict.kind === 'jump' || verdict.kind === 'goto') {
      const target = chains.find(
        ({ table, name, families }) =>
          table === chain.table && name === verdict.target && families.includes(packet.family),
      );
      if (target === undefined) continue;
      const walked = walk(target, chains, packet, maybe, depth + 1);
      if (isMatch === null) {
        if (walked.end === 'accept') maybe.push(rule);
        continue;
      }
      if (walked.end !== 'return' || verdict.kind === 'goto') return walked;
      continue;
    }
    if (isMatch === null) {
      if (verdict.kind === 'accept') maybe.push(rule);
      continue;
    }
    return { end: verdict.kind, rule: verdict.kind === 'drop' ? rule : null };
  }
  return { end: 'return', rule: null };
}
