// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { waitFor } from '@tandem/testing/wait';
import { AttachAgain, type Reattaching } from './attach-again.ts';

interface TestNode {
  tries: number;
  readonly attacher: { readonly retryMs: number | null };
  readonly controller: Reattaching;
}

/** Attaching fails `failing` times; `retryMs` after each of them. */
function node(failing: number, ms: number): TestNode {
  const listeners = new Set<() => void>();
  const made: TestNode = {
    tries: 0,
    attacher: {
      get retryMs(): number | null {
        return made.tries <= failing ? ms : null;
      },
    },
    controller: {
      onApplied: (listener: () => void): (() => void) => {
        listeners.add(listener);
        return () => void listeners.delete(listener);
      },
      reattach: (): Promise<void> => {
        made.tries += 1;
        for (const listener of listeners) listener();
        return Promise.resolve();
      },
    },
  };
  return made;
}

const timers = (): number =>
  process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;

test('a pod that could not be attached is tried again until it is, and no longer', async () => {
  const tested = node(4, 1);
  const before = timers();
  const again = new AttachAgain(tested.controller, tested.attacher);
  await tested.controller.reattach();
  await waitFor(() => tested.tries === 5, { what: 'the pod to be attached' });
  assert.equal(timers(), before);
  again.stop();
});

test('but not after the stop', async () => {
  const tested = node(1000, 3_600_000);
  const before = timers();
  const again = new AttachAgain(tested.controller, tested.attacher);
  await tested.controller.reattach();
  assert.equal(timers(), before + 1);
  again.stop();
  assert.equal(timers(), before);
  await tested.controller.reattach();
  assert.equal(timers(), before);
});
