// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { NetworkNamespace, PinDirectory, runChild } from '../test/fixture.ts';

/** The steps of test/children/links.ts, each in a process inside one namespace of ours. */
const steps = [
  'tcx-order',
  'tcx-update-and-detach',
  'tcx-interface-gone',
  'netfilter',
  'netfilter-refused',
  'cgroup',
  'reuseport',
  'pinned',
  'ensured-pins',
  'wrong-arguments',
] as const;

describe('links', () => {
  let namespace: NetworkNamespace;
  let pins: PinDirectory;

  before(() => {
    namespace = new NetworkNamespace();
    pins = new PinDirectory();
  });
  after(() => {
    pins[Symbol.dispose]();
    namespace[Symbol.dispose]();
  });

  for (const step of steps) {
    test(step, () => {
      const { code, signal, output } = runChild('links', [step, pins.path], {
        namespace: namespace.name,
      });
      assert.equal(signal, null, output);
      assert.equal(code, 0, output);
    });
  }
});
