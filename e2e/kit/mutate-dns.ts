// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** DNS messages changed at random, the same for the same seed: what a hostile pod or server may send. */

import { type DnsQuestion, encodeQuestion } from '@tandem/testing/dns-query';

/** xorshift32: a test run is repeated by its seed. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0 || 1;
  }

  /** An integer of 0..below-1. */
  below(below: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return (x >>> 0) % below;
  }

  of<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T;
  }
}

const types: readonly NonNullable<DnsQuestion['type']>[] = [
  'A',
  'AAAA',
  'TXT',
  'MX',
  'SRV',
  'PTR',
  'NULL',
];

/** A valid query for an allowed or a denied name, with or without EDNS. */
export function validQuery(random: Random, suffixes: readonly string[]): Uint8Array {
  const labels = Array.from(
    { length: 1 + random.below(4) },
    () => `n-${'x'.repeat(random.below(20))}${random.below(1000)}`,
  );
  return encodeQuestion({
    server: '',
    name: `${random.below(3) === 0 ? labels.join('.') : labels[0]}.${random.of(suffixes)}`,
    type: random.of(types),
    id: random.below(0x10000),
    ...(random.below(2) === 0 ? { ednsBytes: random.of([0, 512, 1232, 65_535]) } : {}),
  });
}

type Mutation = (bytes: Uint8Array, random: Random) => Uint8Array;

const put16 = (bytes: Uint8Array, at: number, value: number): Uint8Array => {
  bytes[at] = value >> 8;
  bytes[at + 1] = value & 255;
  return bytes;
};
const anyOffset = (bytes: Uint8Array, random: Random): number =>
  random.below(Math.max(1, bytes.length));
const numbers = [0, 1, 2, 3, 255, 256, 0x7fff, 0x8000, 0xffff] as const;

/** Each takes a copy it may change. */
const mutations: readonly Mutation[] = [
  function flipBit(bytes, random) {
    const at = anyOffset(bytes, random);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    return bytes;
  },
  function setByte(bytes, random) {
    bytes[anyOffset(bytes, random)] = random.below(256);
    return bytes;
  },
  function truncate(bytes, random) {
    return bytes.subarray(0, random.below(bytes.length + 1));
  },
  function extend(bytes, random) {
    const more = Uint8Array.from({ length: 1 + random.below(900) }, () => random.below(256));
    return Uint8Array.from([...bytes, ...more]);
  },
  function changeFlags(bytes, random) {
    return put16(bytes, 2, random.below(0x10000));
  },
  function changeCount(bytes, random) {
    return put16(bytes, random.of([4, 6, 8, 10]), random.of(numbers));
  },
  function insertPointer(bytes, random) {
    const at = 12 + random.below(Math.max(1, bytes.length - 13));
    return put16(bytes, at, 0xc000 | random.of([0, 2, 12, at, at + 1, at + 2, 0x3fff]));
  },
  function changeLabelLength(bytes, random) {
    bytes[12] = random.of([0, 1, 2, 62, 63, 64, 127, 128, 191, 192, 255]);
    return bytes;
  },
  function changeTypeOrClass(bytes, random) {
    return put16(bytes, Math.max(12, bytes.length - random.of([2, 4])), random.of(numbers));
  },
  function repeatTail(bytes, random) {
    const tail = bytes.subarray(12 + random.below(Math.max(1, bytes.length - 12)));
    const times = 1 + random.below(20);
    return Uint8Array.from([...bytes, ...Array.from({ length: times }, () => [...tail]).flat()]);
  },
  function longName(bytes, random) {
    const label = [random.of([1, 31, 63]), 0x61];
    const labels = Array.from({ length: random.of([4, 64, 127, 128, 200]) }, () => [
      ...label,
      ...Array.from({ length: label[0]! - 1 }, () => 0x62),
    ]);
    return Uint8Array.from([...bytes.subarray(0, 12), ...labels.flat(), ...bytes.subarray(12)]);
  },
];

/** The message after one to three mutations; at most 4,096 octets. */
export function mutate(message: Uint8Array, random: Random): Uint8Array {
  let bytes = Uint8Array.from(message);
  const count = 1 + random.below(3);
  for (let i = 0; i < count; i++) bytes = Uint8Array.from(random.of(mutations)(bytes, random));
  return bytes.subarray(0, 4096);
}
