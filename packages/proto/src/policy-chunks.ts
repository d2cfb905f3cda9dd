// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// An encoded PolicySnapshot in pieces that fit a gRPC message, and put together again. Bytes only: what is
// in them is for `snapshot.ts` to judge.

import { createHash } from 'node:crypto';
import type { PolicyUpdate, PolicyUpdateInit } from './gen/messages.ts';
import { policyChunkBytes, snapshotBytesMax } from './limits.ts';

const digestBytes = 32;

function sha256(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}

/** Cuts `snapshot` into updates, in sending order. Their chunks are views of `snapshot`. */
export function splitSnapshot(revision: number, snapshot: Uint8Array): PolicyUpdateInit[] {
  const digest = sha256(snapshot);
  const chunkCount = Math.max(1, Math.ceil(snapshot.length / policyChunkBytes));
  const updates: PolicyUpdateInit[] = [];
  for (let chunkIndex = 0; chunkIndex < chunkCount; chunkIndex++) {
    const start = chunkIndex * policyChunkBytes;
    const chunk = snapshot.subarray(start, start + policyChunkBytes);
    updates.push({ revision, chunkIndex, chunkCount, totalBytes: snapshot.length, chunk, digest });
  }
  return updates;
}

/** Result of a received update. */
export type AssembleResult =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'complete'; readonly revision: number; readonly snapshot: Uint8Array }
  | { readonly kind: 'error'; readonly revision: number; readonly error: string };

/**
 * Puts the updates of one stream together. Holds at most one snapshot of snapshotBytesMax; after an
 * error it waits for the first piece of a revision.
 */
export class SnapshotAssembler {
  #buffer: Uint8Array = new Uint8Array(0);
  #revision = 0;
  #chunkCount = 0;
  #nextIndex = 0;
  #filledBytes = 0;

  accept(update: PolicyUpdate): AssembleResult {
    const error = update.chunkIndex === 0 ? this.#begin(update) : this.#continues(update);
    if (error !== null) return this.#fail(update.revision, error);
    if (this.#filledBytes + update.chunk.length > this.#buffer.length) {
      return this.#fail(update.revision, `more than the ${this.#buffer.length} bytes it announced`);
    }
    this.#buffer.set(update.chunk, this.#filledBytes);
    this.#filledBytes += update.chunk.length;
    this.#nextIndex++;
    if (this.#nextIndex < this.#chunkCount) return { kind: 'incomplete' };
    if (this.#filledBytes !== this.#buffer.length) {
      return this.#fail(update.revision, `ends after ${this.#filledBytes} bytes`);
    }
    if (Buffer.compare(sha256(this.#buffer), update.digest) !== 0) {
      return this.#fail(update.revision, 'digest does not match');
    }
    const snapshot = this.#buffer;
    this.#reset();
    return { kind: 'complete', revision: update.revision, snapshot };
  }

  #begin(update: PolicyUpdate): string | null {
    this.#reset();
    if (update.revision === 0) return 'revision 0';
    if (update.totalBytes > snapshotBytesMax) {
      return `${update.totalBytes} bytes, the limit is ${snapshotBytesMax}`;
    }
    if (update.chunkCount !== Math.max(1, Math.ceil(update.totalBytes / policyChunkBytes))) {
      return `${update.chunkCount} pieces for ${update.totalBytes} bytes`;
    }
    if (update.digest.length !== digestBytes) return 'no SHA-256 digest';
    this.#revision = update.revision;
    this.#chunkCount = update.chunkCount;
    this.#buffer = new Uint8Array(update.totalBytes);
    return null;
  }

  #continues(update: PolicyUpdate): string | null {
    if (update.revision !== this.#revision || update.chunkIndex !== this.#nextIndex) {
      return `piece ${update.chunkIndex} of revision ${update.revision} out of order`;
    }
    return null;
  }

  #fail(revision: number, error: string): AssembleResult {
    this.#reset();
    return { kind: 'error', revision, error: `policy update: ${error}` };
  }

  #reset(): void {
    this.#buffer = new Uint8Array(0);
    this.#revision = 0;
    this.#chunkCount = 0;
    this.#nextIndex = 0;
    this.#filledBytes = 0;
  }
}
