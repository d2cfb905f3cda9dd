// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { insideNamespace } from '@tandem/testing/inside';
import { waitFor } from '@tandem/testing/wait';
import { NFPROTO_ARP, NFPROTO_INET, NftWatch } from './nft-watch.ts';

const nft = (...args: readonly string[]): unknown => execFileSync('nft', args);

insideNamespace(import.meta, () => {
  test('changes of the table are told, those of others are not', async () => {
    let changes = 0;
    using _watch = new NftWatch({
      tables: [
        { family: NFPROTO_INET, name: 'tandem' },
        { family: NFPROTO_ARP, name: 'tandem' },
      ],
      onChange: () => {
        changes += 1;
      },
    });
    const foreign = [
      ['add', 'table', 'inet', 'other'],
      ['add', 'chain', 'inet', 'other', 'c'],
      ['add', 'rule', 'inet', 'other', 'c', 'accept'],
      ['add', 'table', 'ip', 'tandem'],
      ['delete', 'table', 'inet', 'other'],
    ];
    const own = [
      ['add', 'table', 'inet', 'tandem'],
      ['add', 'chain', 'inet', 'tandem', 'c'],
      ['add', 'rule', 'inet', 'tandem', 'c', 'accept'],
      ['add', 'set', 'inet', 'tandem', 's', '{ type ipv4_addr; }'],
      ['add', 'element', 'inet', 'tandem', 's', '{ 10.0.0.1 }'],
      ['flush', 'chain', 'inet', 'tandem', 'c'],
      ['delete', 'chain', 'inet', 'tandem', 'c'],
      ['add', 'table', 'arp', 'tandem'],
      ['flush', 'ruleset'],
    ];
    for (const command of own) {
      for (const each of foreign) nft(...each);
      const from = changes;
      nft(...command);
      await waitFor(() => changes > from, { what: command.join(' ') });
    }
    assert.equal(changes, own.length);
  });
});
