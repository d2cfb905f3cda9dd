// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * learn: an address in the prefix of an operator's NAT64 gateway is learned as the IPv4 address that it leads to (safety
 * rule 5). The model writes the IPv4 address into the prefix octet by octet, after the figure of RFC 6052, section 2.2; section
 * 2.4 has the examples.
 */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { addressBytes } from '@tandem/testing/address';
import * as fc from 'fast-check';
import { Fixture } from './fixture.ts';
import { learn } from './learning.ts';

const lengths = [32, 40, 48, 56, 64, 96] as const;
type Length = (typeof lengths)[number];
/** One of each length, none in another, and as many as there may be. */
const prefixes: Readonly<Record<Length, string>> = {
  32: '2001:db8::/32',
  40: '2001:dba:100::/40',
  48: '2001:dbb:122::/48',
  56: '2001:dbc:122:300::/56',
  64: '2001:dbd:122:344::/64',
  96: '2001:dbe:122:344::/96',
};
const all = [...Object.values(prefixes), '2001:dbf:1::/48', 'fd64:ff9b::/96'];

/** struct td_nat64 of each, as the agent encodes them (encode.test.ts). */
function nat64(): Uint8Array {
  const bytes = new Uint8Array(all.length * 24);
  const view = new DataView(bytes.buffer);
  for (const [i, text] of all.entries()) {
    const [address = '', bits] = text.split('/');
    const words = new DataView(addressBytes(address).buffer);
    view.setBigUint64(i * 24, words.getBigUint64(0), true);
    view.setBigUint64(i * 24 + 8, words.getBigUint64(8), true);
    view.setUint32(i * 24 + 16, Number(bits), true);
  }
  return bytes;
}

const fixture = new Fixture({}, true, { nat64: nat64() });
after(() => fixture[Symbol.dispose]());
beforeEach(() => {
  fixture.reset();
  fixture.class('10.96.0.0', 16, 30, ['CLUSTER', 'SERVICE']);
  fixture.class('192.0.2.33', 32, 31, ['NODE']);
});

const selector = 0x80000001;
function learned(address: string | Uint8Array): string {
  const request = { op: 'ADD' as const, address, selector, expires: 1000, isAaaa: true };
  return learn(fixture, [request])[0] ?? '';
}

/** Where the octets of the IPv4 address go: octet 8 is left out. */
const places: Readonly<Record<Length, readonly number[]>> = {
  32: [4, 5, 6, 7],
  40: [5, 6, 7, 9],
  48: [6, 7, 9, 10],
  56: [7, 9, 10, 11],
  64: [9, 10, 11, 12],
  96: [12, 13, 14, 15],
};

describe('a NAT64 prefix of an operator', () => {
  test('the examples of RFC 6052, section 2.4: 192.0.2.33 is a node', () => {
    const rows = [
      '2001:db8:c000:221::',
      '2001:dba:1c0:2:21::',
      '2001:dbb:122:c000:2:2100::',
      '2001:dbc:122:3c0:0:221::',
      '2001:dbd:122:344:c0:2:2100::',
      '2001:dbe:122:344::192.0.2.33',
      'fd64:ff9b::192.0.2.33',
      '64:ff9b::192.0.2.33',
    ];
    for (const text of rows) assert.equal(learned(text), 'REFUSED_ADDRESS', text);
    // 192.0.2.34 in each
    for (const text of ['2001:db8:c000:222::', '2001:dba:1c0:2:22::', 'fd64:ff9b::192.0.2.34']) {
      assert.equal(learned(text), 'OK', text);
    }
    for (const text of ['2001:dbe:122:345::192.0.2.33', '2001:dbe:122:344:1::192.0.2.33']) {
      assert.equal(learned(text), 'OK', 'another prefix');
    }
  });

  test('any address of any length, whatever octet 8 and the suffix are', () => {
    const outcomes = new Set<string>();
    fc.assert(
      fc.property(
        fc.constantFrom(...lengths),
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
        fc.oneof(
          fc.tuple(fc.constant(10), fc.constant(96), fc.nat(255), fc.nat(255)),
          fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255)),
        ),
        (length, noise, ipv4) => {
          const address = Uint8Array.from(noise);
          const base = addressBytes(prefixes[length].split('/')[0] ?? '');
          address.set(base.subarray(0, length / 8));
          if (length === 96) address.set(base);
          for (const [i, place] of places[length].entries()) address[place] = ipv4[i] ?? 0;
          const [first, second, third, fourth] = ipv4;
          const isOfCluster =
            (first === 10 && second === 96) ||
            (first === 192 && second === 0 && third === 2 && fourth === 33);
          const isNoHost = first === 0 || first === 127 || first >= 224;
          const want = isOfCluster || isNoHost ? 'REFUSED_ADDRESS' : 'OK';
          const got = learned(address).replace('UNCHANGED', 'OK');
          outcomes.add(`${length} ${got}`);
          assert.equal(got, want, `${Buffer.from(address).toString('hex')} ${ipv4.join('.')}`);
        },
      ),
      { seed: 20261129, numRuns: 600 },
    );
    assert.equal(outcomes.size, 2 * lengths.length, [...outcomes].join(', '));
  });
});
