// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Addresses of replies with random aliases, in any order, case and compression, against an oracle over lists of labels. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { long, message, query, question, word } from '../../test/dns-message.ts';
import { parseQuery, QueryView } from './query.ts';
import { parseReply, ReplyView, replyBadChain, replyOk } from './reply.ts';

const seed = 20261201;
const key = { low: 3, high: 4 };
const asked = 'w.a.test';
const types = { a: 1, cname: 5, dname: 39 } as const;

interface Said {
  readonly owner: string;
  readonly type: keyof typeof types;
  /** The last octet of an address, or a name. */
  readonly data: number | string;
  readonly ttl: number;
}

/** Few names, many of them below others, so that records meet. */
const names = fc.constantFrom('w.a.test', 'a.test', 'w.b.test', 'b.test', 'v.w.b.test', 'c', 'w.c');
const ttls = fc.constantFrom(5, 60, 300);
const said = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record<Said>({
      owner: names,
      type: fc.constant('a'),
      data: fc.nat(9),
      ttl: ttls,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record<Said>({
      owner: names,
      type: fc.constant('cname'),
      data: names,
      ttl: ttls,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record<Said>({
      owner: names,
      type: fc.constant('dname'),
      data: names,
      ttl: ttls,
    }),
  },
);

interface Expected {
  readonly isChain: boolean;
  /** "octet ttl" */
  readonly addresses: readonly string[];
}

/** By the text of RFC 1034 section 3.6.2 and RFC 6672 section 2.2; each alias is used once. */
function expected(records: readonly Said[]): Expected {
  const aliases = records.filter(({ type }) => type !== 'a');
  const unused = new Map<string, Said>();
  for (const alias of aliases) {
    const id = `${alias.owner} ${alias.type} ${alias.data}`;
    const ttl = Math.min(alias.ttl, unused.get(id)?.ttl ?? Infinity);
    unused.set(id, { ...alias, ttl });
  }
  const all = [...unused.values()];
  const used = new Set<Said>();
  let current = asked.split('.');
  let least = Infinity;
  for (;;) {
    const text = current.join('.');
    const exact = all.filter(({ type, owner }) => type === 'cname' && owner === text);
    const above = all.filter(({ type, owner }) => type === 'dname' && text.endsWith(`.${owner}`));
    const candidates = exact.length > 0 ? exact : above;
    const [next, ...others] = candidates;
    if (next === undefined) {
      const found = records.filter(({ type, owner }) => type === 'a' && owner === text);
      const addresses = found.map(({ data, ttl }) => `${data} ${Math.min(ttl, least)}`);
      return { isChain: true, addresses };
    }
    if (others.length > 0 || used.has(next)) return { isChain: false, addresses: [] };
    used.add(next);
    least = Math.min(least, next.ttl);
    const kept = next.type === 'cname' ? [] : current.slice(0, -next.owner.split('.').length);
    current = [...kept, ...String(next.data).split('.')];
    if (current.join('.').length > 253) return { isChain: false, addresses: [] };
  }
}

/** Writes names as servers do: the end of a name may be a pointer to an earlier one, letters have any case. */
class Writer {
  readonly #places = new Map<string, number>();
  readonly #choices: readonly number[];
  #next = 0;

  constructor(choices: readonly number[]) {
    this.#choices = choices;
  }

  name(text: string, at: number): number[] {
    const octets: number[] = [];
    const parts = text.split('.');
    for (let i = 0; i < parts.length; i++) {
      const rest = parts.slice(i).join('.');
      const place = this.#places.get(rest);
      if (place !== undefined && this.#choose() !== 0) return [...octets, ...word(0xc000 | place)];
      if (place === undefined) this.#places.set(rest, at + octets.length);
      const label = this.#choose() === 1 ? parts[i]!.toUpperCase() : parts[i]!;
      octets.push(label.length, ...Buffer.from(label));
    }
    return [...octets, 0];
  }

  record({ owner, type, data, ttl }: Said, at: number): number[] {
    const of = this.name(owner, at);
    const octets =
      typeof data === 'number' ? [192, 0, 2, data] : this.name(data, at + of.length + 10);
    return [
      ...of,
      ...word(types[type]),
      ...word(1),
      ...long(ttl),
      ...word(octets.length),
      ...octets,
    ];
  }

  #choose(): number {
    const choice = this.#choices[this.#next % this.#choices.length]!;
    this.#next += 1;
    return choice;
  }
}

test('addresses at the end of random aliases, as an oracle over lists of labels finds them', () => {
  const view = new ReplyView(key);
  const asking = new QueryView(key);
  const bytesAsked = query(asked);
  parseQuery(asking, bytesAsked, 0, bytesAsked.length);
  const seen = { chains: 0, learned: 0, bad: 0 };
  const check = (records: readonly Said[], choices: readonly number[]): void => {
    const writer = new Writer(choices);
    writer.name(asked, 12);
    let at = 12 + question(asked).length;
    const answer = records.map((each) => {
      const octets = writer.record(each, at);
      at += octets.length;
      return octets;
    });
    const bytes = message({ flags: 0x8180, question: question(asked), answer });
    const status = parseReply(view, bytes, 0, bytes.length, asking);
    const want = expected(records);
    assert.equal(status, want.isChain ? replyOk : replyBadChain);
    const got = Array.from(
      { length: view.addressCount },
      (_, i) => `${view.addresses[i * 16 + 15]} ${view.ttls[i]}`,
    );
    assert.deepEqual(got, want.addresses);
    if (!want.isChain) seen.bad += 1;
    else if (view.cnameCount > 1) seen.chains += 1;
    if (got.length > 0) seen.learned += 1;
  };
  fc.assert(
    fc.property(
      fc.array(said, { maxLength: 9 }),
      fc.array(fc.nat(2), { minLength: 1, maxLength: 16 }),
      check,
    ),
    { seed, numRuns: 20_000 },
  );
  assert.ok(Math.min(seen.chains, seen.learned, seen.bad) > 300, JSON.stringify(seen));
});
