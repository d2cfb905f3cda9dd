// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which servers got other backends from one policy to the next. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress } from '@tandem/core/net/ip';
import { decodePolicySnapshot, encodePolicySnapshot } from '@tandem/proto/snapshot';
import * as fc from 'fast-check';
import { address } from '../../test/records.ts';
import { buildImage } from './build-image.ts';
import { PolicyTables } from './tables.ts';

type Digests = Readonly<Record<string, number>>;

/** As it comes out of the file and the stream. `null`: of a writer that does not know the field. */
function tablesOf(digests: Digests | null): PolicyTables {
  const listed = Object.entries(digests ?? {}).map(([text, digest]) => {
    return { address: address(text), digest };
  });
  const field = digests === null ? {} : { backendDigests: listed };
  const encoded = encodePolicySnapshot({ revision: 1, nodeName: 'n', createdUnixMs: 1, ...field });
  assert.ok(encoded.ok);
  const decoded = decodePolicySnapshot(encoded.value);
  assert.ok(decoded.ok);
  return new PolicyTables(buildImage(decoded.value).image);
}

function changed(before: Digests | null, after: Digests | null): string[] {
  const servers = tablesOf(after).serversChangedSince(tablesOf(before));
  return servers.map((server) => formatAddress(server)).sort();
}

const dns = '10.96.0.10';
const dns6 = 'fd00:96::10';
const rows: readonly (readonly [
  what: string,
  before: Digests | null,
  after: Digests | null,
  want: readonly string[],
])[] = [
  ['nothing is known', {}, {}, []],
  ['nothing changed', { [dns]: 1, [dns6]: 2 }, { [dns6]: 2, [dns]: 1 }, []],
  ['one of two changed', { [dns]: 1, [dns6]: 2 }, { [dns]: 1, [dns6]: 3 }, [dns6]],
  ['a digest of 32 bits', { [dns]: 0xffff_ffff }, { [dns]: 0xffff_fffe }, [dns]],
  ['a server is gone', { [dns]: 1, [dns6]: 2 }, { [dns]: 1 }, [dns6]],
  ['a server is new', { [dns]: 1 }, { '10.96.0.11': 1, [dns]: 1 }, ['10.96.0.11']],
  ['known no longer', { [dns]: 1 }, { [dns]: 0 }, [dns]],
  ['after a snapshot without the field', null, { [dns]: 1 }, [dns]],
  ['before a snapshot without the field', { [dns]: 1 }, null, [dns]],
  ['both without the field', null, null, []],
];

for (const [what, before, after, want] of rows) {
  test(`servers with other backends: ${what}`, () =>
    assert.deepEqual(changed(before, after), want));
}

test('the addresses are copies', () => {
  const after = tablesOf({ [dns]: 2 });
  const before = tablesOf({ [dns]: 1 });
  after.serversChangedSince(before)[0]?.fill(0);
  assert.deepEqual(after.serversChangedSince(before), [address(dns)]);
});

test('a comparison of two policies is that of their tables', () => {
  const addresses = ['10.96.0.10', '10.96.0.9', '255.0.0.1', 'fd00::1', '::2', '1::'];
  const digests = fc.dictionary(fc.constantFrom(...addresses), fc.constantFrom(1, 2));
  fc.assert(
    fc.property(digests, digests, (before, after) => {
      const want = addresses.filter((each) => before[each] !== after[each]).sort();
      assert.deepEqual(changed(before, after), want);
    }),
    { seed: 20251128, numRuns: 200 },
  );
});
