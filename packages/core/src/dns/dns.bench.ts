// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Nanoseconds of what every query and reply pays: parse, match, parse the reply, write a refusal. */

import { measure } from '../measure.bench.ts';
import { edeProhibited, rcodeRefused } from './constants.ts';
import { writeReply, writtenReplyBytesMax } from './edit.ts';
import type { Matcher } from './matcher.ts';
import { compileMatcher } from './matcher-compile.ts';
import { nameFromText } from './name.ts';
import { hashBytes } from './name-hash.ts';
import { type Pattern, parseMatchPattern } from './pattern.ts';
import { nameFor, ordinaryPatterns, random } from './patterns.bench.ts';
import { loadName, parseQuery, QueryView } from './query.ts';
import { parseReply, ReplyView } from './reply.ts';

const key = { low: 1, high: 2 };
const edns = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];

function queryFor(name: Uint8Array): Uint8Array {
  return Uint8Array.from([7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, ...name, 0, 1, 0, 1, ...edns]);
}

function replyFor(name: Uint8Array, cname: Uint8Array | null): Uint8Array {
  const head = [7, 7, 0x81, 0x80, 0, 1, 0, cname === null ? 4 : 5, 0, 0, 0, 1, ...name, 0, 1, 0, 1];
  const owner = cname === null ? 12 : head.length + 12;
  const alias =
    cname === null ? [] : [0xc0, 12, 0, 5, 0, 1, 0, 0, 1, 44, 0, cname.length, ...cname];
  const addresses = [1, 2, 3, 4].flatMap((last) => {
    return [0xc0, owner, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, last];
  });
  return Uint8Array.from([...head, ...alias, ...addresses, ...edns]);
}

function wire(text: string): Uint8Array {
  const name = nameFromText(text);
  if (name === null) throw new Error(`${text} is no name`);
  return name;
}

function compiled(patterns: readonly Pattern[]): Matcher {
  const before = performance.now();
  const { matcher, states, simulated } = compileMatcher(patterns, 0x5eed);
  const milliseconds = Math.round(performance.now() - before);
  const kibibytes = Math.round(matcher.byteLength / 1024);
  console.log(
    `${patterns.length} patterns: ${states} states, ${simulated} simulated, ` +
      `${kibibytes} KiB, ${milliseconds} ms`,
  );
  return matcher;
}

/** Names that patterns of the set match, each in its own view, as different queries are. */
function viewsFor(patterns: readonly Pattern[], count: number): QueryView[] {
  const next = random(11);
  return Array.from({ length: count }, () => {
    const view = new QueryView(key);
    const name = wire(nameFor(patterns[next(patterns.length)] as Pattern, next));
    loadName(view, name, 0, name.length);
    return view;
  });
}

function matchRun(matcher: Matcher, views: readonly QueryView[]): (count: number) => number {
  return (count) => {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += matcher.match(views[i % views.length] as QueryView);
    return sum;
  };
}

/** Parse and match as the proxy does: one view, many messages. */
function pathRun(matcher: Matcher, patterns: readonly Pattern[]): (count: number) => number {
  const view = new QueryView(key);
  const next = random(13);
  const queries = Array.from({ length: 256 }, () => {
    return queryFor(wire(nameFor(patterns[next(patterns.length)] as Pattern, next)));
  });
  return (count) => {
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const query = queries[i & 255] as Uint8Array;
      sum += parseQuery(view, query, 0, query.length) + matcher.match(view);
    }
    return sum;
  };
}

const name = wire('api.eu-west.example.com');
const view = new QueryView(key);
const replyView = new ReplyView(key);
const query = queryFor(name);
const plainReply = replyFor(name, null);
const aliasReply = replyFor(name, wire('edge.cdn-provider.net'));
const out = new Uint8Array(writtenReplyBytesMax);
const longName = wire(`${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`);
const longQuery = queryFor(longName);
const longView = new QueryView(key);
parseQuery(view, query, 0, query.length);

function repeat(operation: () => number): (count: number) => number {
  return (count) => {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += operation();
    return sum;
  };
}

measure(`messages, name of ${name.length} octets`, [
  { name: 'hashBytes', run: repeat(() => hashBytes(name, 0, name.length, key)) },
  { name: 'parseQuery', run: repeat(() => parseQuery(view, query, 0, query.length)) },
  {
    name: 'parseQuery, 255 octets',
    run: repeat(() => parseQuery(longView, longQuery, 0, longQuery.length)),
  },
  {
    name: 'parseReply, 4 addresses',
    run: repeat(() => parseReply(replyView, plainReply, 0, plainReply.length, view)),
  },
  {
    name: 'parseReply, CNAME and 4 addresses',
    run: repeat(() => parseReply(replyView, aliasReply, 0, aliasReply.length, view)),
  },
  {
    name: 'writeReply, REFUSED with EDE',
    run: repeat(() => writeReply(out, 0, out.length, query, 0, view, rcodeRefused, edeProhibited)),
  },
]);

const few = ordinaryPatterns(100);
const many = ordinaryPatterns(10_000);
const fewMatcher = compiled(few);
const manyMatcher = compiled(many);
const hostile = Array.from({ length: 40 }, (_, i) => {
  const letter = String.fromCharCode(97 + (i % 26));
  const pattern = parseMatchPattern(`*${letter}*${i % 10}*.com`, 'toFQDNs');
  if (!pattern.ok) throw new Error(pattern.error.message);
  return pattern.value;
});
const hostileMatcher = compiled([...few, ...hostile]);

// The same names in every matcher, so that what differs is the set of patterns.
const shared = viewsFor(few, 256);
measure('match, 256 names in turn', [
  { name: '100 patterns, names of these', run: matchRun(fewMatcher, shared) },
  { name: '10,000 patterns, the same names', run: matchRun(manyMatcher, shared) },
  { name: '10,000 patterns, 256 names of these', run: matchRun(manyMatcher, viewsFor(many, 256)) },
  {
    name: '10,000 patterns, 8,192 names of these',
    run: matchRun(manyMatcher, viewsFor(many, 8192)),
  },
]);

measure('parseQuery and match, 256 names in turn', [
  { name: '100 patterns', run: pathRun(fewMatcher, few) },
  { name: '10,000 patterns, the same names', run: pathRun(manyMatcher, few) },
  { name: '10,000 patterns', run: pathRun(manyMatcher, many) },
]);

measure('match with simulated patterns', [
  { name: '100 and 40 simulated ones', run: matchRun(hostileMatcher, shared) },
]);
