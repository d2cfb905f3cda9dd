// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { labels } from '../../test/dns-message.ts';
import { lowerOfOctet } from './alphabet.ts';
import { nameFromText, nameToText } from './name.ts';
import { hashBytes } from './name-hash.ts';
import { expandName, skipName } from './wire.ts';

const seed = 20251121;

/** Wire names of any octets, at most 255 long. */
const anyName = fc
  .array(fc.uint8Array({ minLength: 1, maxLength: 63 }), { maxLength: 20 })
  .map((parts) => {
    const kept: number[][] = [];
    let length = 1;
    for (const part of parts) {
      length += part.length + 1;
      if (length > 255) break;
      kept.push([...part]);
    }
    return Uint8Array.from(labels(...kept));
  });

test('parse after print is the lower-case name', () => {
  const check = (wire: Uint8Array): void => {
    const text = nameToText(wire);
    assert.match(text, /^[\x21-\x7e]+$/);
    assert.deepEqual(
      nameFromText(text),
      wire.map((octet) => lowerOfOctet[octet]!),
    );
  };
  fc.assert(fc.property(anyName, check), { seed, numRuns: 2000 });
});

test('any text is a name or null', () => {
  const check = (text: string): void => {
    const wire = nameFromText(text);
    if (wire !== null) assert.deepEqual(nameFromText(nameToText(wire)), wire);
  };
  const texts = fc.oneof(
    fc.string(),
    fc.string({ unit: 'binary' }),
    fc.stringMatching(/^[a.\\0-9]*$/),
  );
  fc.assert(fc.property(texts, check), { seed, numRuns: 1500 });
});

test('a compressed name expands to the name', () => {
  const check = (wire: Uint8Array, cut: number): void => {
    // The name, then a copy whose tail is a pointer into the first.
    const boundaries = [0];
    for (let at = 0; wire[at] !== 0; boundaries.push(at)) at += wire[at]! + 1;
    const tail = boundaries[cut % boundaries.length]!;
    const head = wire.subarray(0, tail);
    const bytes = Uint8Array.from([
      ...new Uint8Array(12),
      ...wire,
      ...head,
      0xc0 | ((12 + tail) >> 8),
      (12 + tail) & 255,
    ]);
    const out = new Uint8Array(256);
    const at = 12 + wire.length;
    assert.equal(expandName(bytes, 0, bytes.length, at, out, 0), wire.length);
    assert.deepEqual(
      out.slice(0, wire.length),
      wire.map((octet) => lowerOfOctet[octet]!),
    );
    assert.equal(skipName(bytes, at, bytes.length), bytes.length);
  };
  fc.assert(fc.property(anyName, fc.nat(200), check), { seed, numRuns: 1000 });
});

test('the hash is HalfSipHash-1-3', () => {
  // Vectors of Linux, lib/siphash_kunit.c, test_vectors_hsiphash of 32-bit machines.
  const want = [0x5814c896, 0xe7e864ca, 0xbc4b0e30, 0x01539939, 0x7e059ea6, 0x88e3d89b];
  const key = { low: 0x03020100, high: 0x07060504 };
  const input = Uint8Array.from({ length: 16 }, (_, i) => i);
  for (const [length, hash] of want.entries()) {
    assert.equal(hashBytes(input, 0, length, key) >>> 0, hash);
  }
});

test('the hash depends on key, place and length alone', () => {
  const check = (octets: Uint8Array, low: number, high: number): void => {
    const key = { low, high };
    const padded = Uint8Array.from([1, 2, 3, ...octets, 9, 9, 9, 9]);
    const hash = hashBytes(octets, 0, octets.length, key);
    assert.equal(hashBytes(padded, 3, octets.length, key), hash);
    assert.equal(hash, hash | 0);
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), fc.integer(), fc.integer(), check), {
    seed,
  });
});
