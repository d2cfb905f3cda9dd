// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { NetworkNamespace, runChild } from '../test/fixture.ts';

const seeds = [0x7a17, 0x51ed];

describe('wrong arguments from JavaScript are errors, never a crash', () => {
  for (const seed of seeds) {
    // A process of its own shows a crash as a signal; a namespace of its own keeps a lucky guess at
    // an interface away from the machine's.
    test(`seed ${seed}`, () => {
      using namespace = new NetworkNamespace();
      const { code, signal, output } = runChild('wrong-arguments', [String(seed)], {
        namespace: namespace.name,
        nodeFlags: ['--expose-gc'],
      });
      assert.equal(signal, null, output);
      assert.equal(code, 0, output);
    });
  }
});
