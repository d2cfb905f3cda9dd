// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  comparePrefixes,
  formatAddress,
  formatPrefix,
  isIpv4,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixContains,
  prefixCovers,
  trieCovers,
} from './ip.ts';

function address(text: string): Uint8Array {
  const bytes = parseAddress(text);
  assert(bytes !== null, text);
  return bytes;
}

function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  assert(parsed !== null, text);
  return parsed;
}

test('addresses have one canonical text', () => {
  const rows: [input: string, want: string | null][] = [
    ['10.0.0.1', '10.0.0.1'],
    ['255.255.255.255', '255.255.255.255'],
    ['::ffff:10.0.0.1', '10.0.0.1'],
    ['::ffff:a00:1', '10.0.0.1'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['2001:DB8::00AB', '2001:db8::ab'],
    ['2001:db8:0:1:0:0:0:1', '2001:db8:0:1::1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:0:0:1:0:0:1:1', '2001::1:0:0:1:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8'],
    ['', null],
    ['1', null],
    ['1.2.3', null],
    ['1.2.3.4.5', null],
    ['01.2.3.4', null],
    ['256.2.3.4', null],
    ['1.2.3.4 ', null],
    ['1.2.3.-4', null],
    [':', null],
    [':::', null],
    ['1:2:3:4:5:6:7', null],
    ['1:2:3:4:5:6:7:8:9', null],
    ['1:2:3:4:5:6:7:8::', null],
    ['::1:2:3:4:5:6:7:8', null],
    ['1::2::3', null],
    ['12345::', null],
    ['g::', null],
    ['fe80::1%eth0', null],
    ['1.2.3.4::', null],
    ['::1.2.3.4:5', null],
    ['::1.2.3', null],
    [':1::', null],
    ['1::2:', null],
  ];
  for (const [input, want] of rows) {
    const bytes = parseAddress(input);
    assert.equal(bytes === null ? null : formatAddress(bytes), want, input);
  }
});

test('formatAddress reads at an offset', () => {
  const bytes = new Uint8Array(40);
  bytes.set(address('192.0.2.7'), 5);
  assert.equal(formatAddress(bytes, 5), '192.0.2.7');
  assert.equal(isIpv4(bytes, 5), true);
  assert.equal(isIpv4(bytes, 4), false);
});

test('prefixes clear host bits and refuse a second notation of IPv4', () => {
  const rows: [input: string, want: string | null][] = [
    ['10.1.2.3/8', '10.0.0.0/8'],
    ['10.1.2.3/32', '10.1.2.3/32'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['192.0.2.129/25', '192.0.2.128/25'],
    ['2001:db8::1/32', '2001:db8::/32'],
    ['2001:db8::ff/121', '2001:db8::80/121'],
    ['::/0', '::/0'],
    ['10.0.0.0', null],
    ['10.0.0.0/33', null],
    ['::/129', null],
    ['::/-1', null],
    ['::/', null],
    ['10.0.0.0/08', null],
    ['10.0.0.0/8/8', null],
    ['::ffff:10.0.0.0/104', null],
    ['::ffff:10.0.0.1/128', null],
  ];
  for (const [input, want] of rows) {
    const parsed = parsePrefix(input);
    assert.equal(parsed === null ? null : formatPrefix(parsed), want, input);
  }
  assert.equal(prefix('10.0.0.0/8').bits, 104);
});

test('families do not contain each other, the trie does', () => {
  assert.equal(prefixContains(prefix('::/0'), address('10.0.0.1')), false);
  assert.equal(prefixContains(prefix('::/0'), address('2001:db8::1')), true);
  assert.equal(prefixContains(prefix('0.0.0.0/0'), address('10.0.0.1')), true);
  assert.equal(prefixContains(prefix('0.0.0.0/0'), address('::1')), false);
  assert.equal(prefixContains(prefix('10.0.0.0/9'), address('10.128.0.1')), false);
  assert.equal(prefixContains(prefix('10.0.0.0/9'), address('10.127.0.1')), true);
  assert.equal(prefixCovers(prefix('::/0'), prefix('10.0.0.0/8')), false);
  assert.equal(trieCovers(prefix('::/0'), prefix('10.0.0.0/8')), true);
  assert.equal(prefixCovers(prefix('10.0.0.0/8'), prefix('10.0.0.0/8')), true);
  assert.equal(prefixCovers(prefix('10.0.0.0/9'), prefix('10.0.0.0/8')), false);
});

test('prefixes sort by address, outer before inner', () => {
  const texts = ['10.0.0.0/8', '10.0.0.0/16', '10.1.0.0/16', '::/0', '0.0.0.0/0', 'fe80::/10'];
  const sorted = texts.map(prefix).sort(comparePrefixes).map(formatPrefix);
  const want = ['::/0', '0.0.0.0/0', '10.0.0.0/8', '10.0.0.0/16', '10.1.0.0/16', 'fe80::/10'];
  assert.deepEqual(sorted, want);
});
