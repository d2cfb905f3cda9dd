// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PolicyUpdate, type PolicyUpdateInit } from './gen/messages.ts';
import { grpcMessageBytesMax, policyChunkBytes, snapshotBytesMax } from './limits.ts';
import { type AssembleResult, SnapshotAssembler, splitSnapshot } from './policy-chunks.ts';

function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 31) & 0xff);
}

/** Sends updates over "the wire" and returns the last outcome. */
function send(assembler: SnapshotAssembler, updates: readonly PolicyUpdateInit[]): AssembleResult {
  let result: AssembleResult = { kind: 'incomplete' };
  for (const update of updates) {
    const bytes = PolicyUpdate.encode(update);
    assert.ok(bytes.length < grpcMessageBytesMax);
    result = assembler.accept(PolicyUpdate.decode(bytes));
  }
  return result;
}

for (const length of [0, 1, policyChunkBytes, policyChunkBytes + 1, 3 * policyChunkBytes]) {
  test(`${length} bytes come together again`, () => {
    const snapshot = pattern(length);
    const result = send(new SnapshotAssembler(), splitSnapshot(5, snapshot));
    assert.ok(result.kind === 'complete');
    assert.equal(result.revision, 5);
    assert.equal(Buffer.compare(result.snapshot, snapshot), 0);
  });
}

test('a new revision abandons an incomplete one', () => {
  const assembler = new SnapshotAssembler();
  const [first] = splitSnapshot(5, pattern(policyChunkBytes * 2));
  assert.ok(first);
  assert.equal(send(assembler, [first]).kind, 'incomplete');
  assert.equal(send(assembler, splitSnapshot(6, pattern(10))).kind, 'complete');
});

const [one, two] = splitSnapshot(5, pattern(policyChunkBytes + 1));
const broken: readonly (readonly [string, readonly PolicyUpdateInit[], RegExp])[] = [
  ['a gap', [two ?? {}], /piece 1 of revision 5 out of order/],
  ['another revision in between', [one ?? {}, { ...two, revision: 6 }], /out of order/],
  ['a flipped byte', [one ?? {}, { ...two, chunk: Uint8Array.of(1) }], /digest does not match/],
  ['too few bytes', [one ?? {}, { ...two, chunk: new Uint8Array(0) }], /ends after/],
  ['too many bytes', [one ?? {}, { ...two, chunk: new Uint8Array(2) }], /more than the/],
  ['revision 0', [{ ...one, revision: 0 }], /revision 0/],
  ['over the limit', [{ ...one, totalBytes: snapshotBytesMax + 1 }], /the limit is/],
  ['a wrong count of pieces', [{ ...one, chunkCount: 3 }], /3 pieces for/],
  ['no digest', [{ ...one, digest: new Uint8Array(4) }], /no SHA-256 digest/],
];

for (const [what, updates, error] of broken) {
  test(`${what} is an error, and the next whole snapshot is taken`, () => {
    const assembler = new SnapshotAssembler();
    const result = send(assembler, updates);
    assert.ok(result.kind === 'error');
    assert.match(result.error, error);
    assert.equal(send(assembler, splitSnapshot(7, pattern(10))).kind, 'complete');
  });
}
