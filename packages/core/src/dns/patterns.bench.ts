// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Ordinary patterns and names, from a fixed seed: cloud names, wildcards, a few stars inside labels. */

import { type Pattern, parseMatchPattern } from './pattern.ts';

const words =
  'api www cdn auth login static img registry logs mail db cache queue grpc edge eu us'.split(' ');
const syllables =
  'ac ber cor dat el fin gra hub int jet kin lo met net op pay quo ra sta tek uni'.split(' ');
const ends = 'com com com com io net org dev cloud co.uk de svc.cluster.local'.split(' ');

/** A reproducible source of integers (mulberry32). */
export function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** `count` distinct ordinary patterns. */
export function ordinaryPatterns(count: number): Pattern[] {
  const next = random(7);
  const pick = (list: readonly string[]): string => list[next(list.length)] as string;
  const domains = Array.from({ length: Math.max(50, count / 6) }, () => {
    const parts = Array.from({ length: 2 + next(2) }, () => pick(syllables)).join('');
    return `${parts}${next(4) === 0 ? next(100) : ''}.${pick(ends)}`;
  });
  const texts = new Set<string>();
  while (texts.size < count) {
    const domain = pick(domains);
    const kind = next(100);
    if (kind < 45) texts.add(`${pick(words)}-${pick(words)}.${domain}`);
    else if (kind < 70) texts.add(`${pick(words)}${next(1000)}.${pick(words)}.${domain}`);
    else if (kind < 85) texts.add(`*.${domain}`);
    else if (kind < 92) texts.add(`**.${domain}`);
    else if (kind < 95) texts.add(`*.${pick(words)}.${domain}`);
    else if (kind < 98) texts.add(`${pick(words)}*.${domain}`);
    else texts.add(`${pick(words)}-*-${pick(words)}.${domain}`);
    if (kind >= 70 && kind < 92 && texts.size > domains.length)
      texts.add(`n${next(1e6)}.${domain}`);
  }
  return [...texts].map((text) => {
    const pattern = parseMatchPattern(text, 'toFQDNs');
    if (!pattern.ok) throw new Error(pattern.error.message);
    return pattern.value;
  });
}

/** A name that the pattern matches, without its final dot. */
export function nameFor(pattern: Pattern, next: (below: number) => number): string {
  const text = pattern.text.replace(/^\*\*\./, `${words[next(words.length)]}.x.`);
  return text.replaceAll('*', () => `q${next(100)}`).slice(0, -1);
}
