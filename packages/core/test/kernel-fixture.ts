// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The kernel's lookups over what compilation produced, for properties that compare them with a reading of the policies. */

import assert from 'node:assert/strict';
import type { PolicyId } from '../src/ids.ts';
import { formatAddress, hostPrefix, trieCovers } from '../src/net/ip.ts';
import { expandPolicy } from '../src/policy/compile/expand.ts';
import type { ClassEntry } from '../src/policy/model/class-entries.ts';
import type { Compiled, PolicyEntry } from '../src/policy/model/desired.ts';
import {
  classNeverLearn,
  classNone,
  EndpointFlag,
  peerAny,
  Verdict,
  verdictDecided,
} from '../src/policy/model/kernel-numbers.ts';
import { address } from './cluster-fixture.ts';
import type { Answer, Packet } from './random-policy.ts';

export class Kernel {
  readonly #compiled: Compiled;
  readonly #entries = new Map<string, PolicyEntry>();

  constructor(compiled: Compiled, policies: readonly Compiled[]) {
    this.#compiled = compiled;
    for (const policy of policies.flatMap((each) => [...each.policies.values()])) {
      for (const entry of expandPolicy(policy, compiled.classTable)) {
        const key = this.#key(entry);
        const known = this.#entries.get(key);
        assert(known === undefined || valueOf(known) === valueOf(entry), `one entry for ${key}`);
        this.#entries.set(key, entry);
      }
    }
  }

  judge(
    ip: string,
    packet: Omit<Packet, 'pod'>,
    policyOf: Compiled,
    learned: ReadonlyMap<string, ReadonlySet<string>> = new Map(),
  ): Answer {
    const endpoint = policyOf.endpoints.find((each) => formatAddress(each.address) === ip);
    assert(endpoint !== undefined);
    const isEgress = packet.direction === 'egress';
    const enforce = isEgress ? EndpointFlag.enforceEgress : EndpointFlag.enforceIngress;
    const wild = isEgress ? EndpointFlag.wildEgress : EndpointFlag.wildIngress;
    if ((endpoint.flags & enforce) === 0) return 'allow';
    const { classId, flags } = this.#class(packet.peer);
    const ask = (peer: number): number => this.#lookup(endpoint.policyId, peer, packet);
    const ofClass = ask(classId);
    let answer = ofClass & ~verdictDecided;
    if ((endpoint.flags & wild) !== 0 && answer !== Verdict.deny && answer === ofClass) {
      answer = strongest(answer, ask(peerAny));
    }
    const mayLearn = (flags & classNeverLearn) === 0;
    if (
      answer === Verdict.none &&
      isEgress &&
      (endpoint.flags & EndpointFlag.fqdn) !== 0 &&
      mayLearn
    ) {
      for (const { id, patternIndex, policyId } of policyOf.members.selectors) {
        const text = policyOf.members.patterns[patternIndex]?.text ?? '';
        const isLearned = policyId === 0 && learned.get(packet.peer)?.has(text) === true;
        if (isLearned) answer = strongest(answer, ask(id));
      }
    }
    return (['none', 'allow', 'deny', 'l7'] as const)[answer] ?? 'none';
  }

  /** The class of an address, with its selectors. */
  who(text: string): { readonly id: number; readonly selectors: ReadonlySet<string> } {
    const { classId } = this.#class(text);
    const selectors = this.#compiled.classTable.selectorsOf.get(classId) ?? [];
    return { id: classId, selectors: new Set(selectors) };
  }

  #class(text: string): { readonly classId: number; readonly flags: number } {
    const target = hostPrefix(address(text));
    let best: ClassEntry | null = null;
    for (const entry of this.#compiled.classes) {
      if (
        trieCovers(entry.prefix, target) &&
        (best === null || entry.prefix.bits > best.prefix.bits)
      ) {
        best = entry;
      }
    }
    return best ?? { classId: classNone, flags: 0 };
  }

  #lookup(
    policyId: PolicyId,
    peer: number,
    { direction, protocol, port }: Omit<Packet, 'pod'>,
  ): number {
    const place = { policyId, peer, direction: direction === 'egress' ? 1 : 0 } as const;
    for (let bits = 16; bits >= 0; bits--) {
      const masked = bits === 0 ? 0 : port & (0xffff << (16 - bits)) & 0xffff;
      const key = this.#key({ ...place, protocol, port: masked, prefixLength: 80 + bits });
      const entry = this.#entries.get(key);
      if (entry !== undefined) return valueOf(entry);
    }
    const key = this.#key({ ...place, protocol: 0, port: 0, prefixLength: 72 });
    const entry = this.#entries.get(key);
    return entry === undefined ? Verdict.none : valueOf(entry);
  }

  #key(place: Omit<PolicyEntry, 'verdict' | 'ruleId'>): string {
    const { policyId, peer, direction, protocol, port, prefixLength } = place;
    return `${policyId} ${peer} ${direction} ${protocol} ${port}/${prefixLength}`;
  }
}

function valueOf({ verdict, isDecided }: PolicyEntry): number {
  return isDecided === true ? verdict | verdictDecided : verdict;
}

function strongest(left: number, right: number): number {
  const order: readonly number[] = [Verdict.none, Verdict.allow, Verdict.l7Dns, Verdict.deny];
  return order.indexOf(left) >= order.indexOf(right) ? left : right;
}
