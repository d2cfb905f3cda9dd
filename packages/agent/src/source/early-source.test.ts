// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ClusterState } from '@tandem/core/policy/model/cluster-state';
import { EarlySource } from './early-source.ts';
import type { ObjectSource } from './object-source.ts';

/** A source that says what it is told to. */
class Told implements ObjectSource {
  readonly calls: string[] = [];
  apply: (cluster: ClusterState) => Promise<void> = () => Promise.resolve();
  readonly diagnostics = [];
  readonly degradations = [];
  readonly unread = '';
  readonly notes = [];
  async start(): Promise<void> {
    this.calls.push('start');
  }
  async stop(): Promise<void> {
    this.calls.push('stop');
  }
  sandboxesChanged(): void {
    this.calls.push('sandboxesChanged');
    void this.apply(second);
  }
  addMetrics(): void {
    this.calls.push('addMetrics');
  }
}

const [first, second] = [{}, {}] as [ClusterState, ClusterState];

function early(): { told: Told; source: EarlySource; applied: ClusterState[] } {
  const told = new Told();
  const applied: ClusterState[] = [];
  const source = new EarlySource(
    (apply) => {
      told.apply = apply;
      return told;
    },
    async (cluster) => {
      applied.push(cluster);
    },
  );
  return { told, source, applied };
}

test('what is read ahead is not applied; what is known at the start is', async () => {
  const { told, source, applied } = early();
  let isRead = false;
  const reading = (async () => {
    await source.readAhead();
    isRead = true;
  })();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isRead, false, 'nothing was read yet');
  await told.apply(first);
  await reading;
  await told.apply(first);
  assert.deepEqual(applied, []);
  await source.start();
  assert.deepEqual(applied, [second]);
  assert.equal(applied[0], second);
  await told.apply(first);
  assert.equal(applied.length, 2);
  assert.deepEqual(told.calls, ['start', 'sandboxesChanged']);
  await source.stop();
  await told.apply(first);
  assert.equal(applied.length, 2, 'not after its end');
});

test('without that it is the source itself', async () => {
  const { told, source, applied } = early();
  await source.start();
  await told.apply(first);
  assert.deepEqual(applied, [first]);
  assert.deepEqual(told.calls, ['start']);
});
