// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseNft } from './nft.ts';

test('a table has an owner by the flag of that name alone', () => {
  const rows: readonly (readonly [flags: string | readonly string[] | undefined, want: boolean])[] =
    [
      [undefined, false],
      ['dormant', false],
      ['persist', false],
      ['owner', true],
      [['owner', 'persist'], true],
      ['\u0001\u0002', true],
    ];
  for (const [flags, want] of rows) {
    const place = { family: 'inet', table: 'fw' };
    const document = {
      nftables: [
        { table: { family: 'inet', name: 'fw', ...(flags === undefined ? {} : { flags }) } },
        { chain: { ...place, name: 'in', type: 'filter', hook: 'input', policy: 'drop' } },
      ],
    };
    const [chain] = parseNft(document, () => true);
    assert.equal(chain?.isOwned, want, JSON.stringify(flags));
  }
});
