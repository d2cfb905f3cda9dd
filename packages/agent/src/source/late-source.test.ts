// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { err, ok } from '@tandem/core/result';
import { silentLogger } from '@tandem/runtime/log';
import { Metrics } from '@tandem/runtime/metrics';
import { waitFor } from '@tandem/testing/wait';
import { LateSource } from './late-source.ts';
import type { ObjectSource } from './object-source.ts';

/** A source that writes down what it is told. */
function recorded(told: string[]): ObjectSource {
  return {
    start: async () => void told.push('start'),
    stop: async () => void told.push('stop'),
    sandboxesChanged: () => void told.push('sandboxesChanged'),
    addMetrics: () => void told.push('addMetrics'),
    ...{ diagnostics: [], degradations: [], unread: '', notes: ['a note'] },
  };
}

test('a source that cannot be opened is named and tried again, and then is the source', async () => {
  const told: string[] = [];
  let isThere = false;
  const source = new LateSource({
    open: async () => (isThere ? ok(recorded(told)) : err('kubeconfig: ENOENT')),
    log: silentLogger(),
    retryMs: 5,
  });
  source.addMetrics(new Metrics());
  await source.start();
  source.sandboxesChanged();
  assert.equal(source.degradations[0]?.code, 'source-unreachable');
  assert.match(source.degradations[0].message, /kubeconfig: ENOENT/);
  assert.deepEqual(source.notes, []);
  isThere = true;
  await waitFor(() => source.degradations.length === 0, { what: 'the source' });
  source.sandboxesChanged();
  await source.stop();
  assert.deepEqual(told, ['addMetrics', 'start', 'sandboxesChanged', 'stop']);
  assert.deepEqual(source.notes, ['a note']);
});

test('one that is stopped before it was opened is not opened any more', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let opened = 0;
  const source = new LateSource({
    open: async () => {
      opened += 1;
      return err('absent');
    },
    log: silentLogger(),
    retryMs: 1,
  });
  await source.start();
  await source.stop();
  t.mock.timers.tick(1000);
  assert.equal(opened, 1);
});
