// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// A BPF map with bytes as keys and values; typed maps are built on top, from BTF layouts. A BpfMap
// owns an fd of its own: it lives until it is disposed, whatever happens to the object or pin that it
// came from. Sizes are checked natively against the kernel's own shape of the map.

import { BpfError } from './errors.ts';
import { forgotten, type Handle, handleKind, type MapFacts, native } from './native.ts';

/** BPF_MAP_TYPE_* of uapi/linux/bpf.h: the types that this package is tested with. */
export const mapType = {
  hash: 1,
  array: 2,
  progArray: 3,
  percpuHash: 5,
  percpuArray: 6,
  lruHash: 9,
  lruPercpuHash: 10,
  lpmTrie: 11,
  reuseportSockarray: 20,
  ringbuf: 27,
} as const;

/** BPF_F_* of map creation. */
export const mapFlag = { noPrealloc: 1, readOnlyProgram: 0x80, mmapable: 0x400 } as const;

/** BPF_ANY, BPF_NOEXIST, BPF_EXIST, BPF_F_LOCK. */
export const updateFlag = { any: 0, noExist: 1, exist: 2, lock: 4 } as const;

const wholeMap = { offset: 0, length: 0 } as const;
const fileFlagReadOnly = 1 << 3; // BPF_F_RDONLY
const entriesPerBatch = 1024;
const batchEntriesMax = 1 << 20;
const tokenBytesMin = 4;
const enospc = 28;

/** Maps with lookup batches. Hashes walk whole buckets, arrays indices: neither can be restarted. */
const typesWithBatches: ReadonlySet<number> = new Set([
  mapType.hash,
  mapType.percpuHash,
  mapType.lruHash,
  mapType.lruPercpuHash,
  mapType.array,
  mapType.percpuArray,
  mapType.lpmTrie,
]);

export interface MapOptions {
  /** mapType. */
  readonly type: number;
  /** At most 15 characters reach the kernel. */
  readonly name: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** mapFlag; default none. */
  readonly flags?: number;
}

/** Position of a series of `lookupBatch` calls. */
export class BatchCursor {
  readonly token: Uint8Array;
  /** Whether the last call reached the end. */
  isDone = false;
  isFirst = true;

  constructor(keySize: number) {
    this.token = new Uint8Array(Math.max(keySize, tokenBytesMin));
  }
}

export class BpfMap implements Disposable {
  /** The name of the object file, longer than the kernel's 15 characters where it is known. */
  readonly name: string;
  readonly id: number;
  /** BPF_MAP_TYPE_*. */
  readonly type: number;
  readonly keySize: number;
  /** As declared; of one CPU for a per-CPU map. */
  readonly valueSize: number;
  /** Length of a value here: for a per-CPU map all possible CPUs, each rounded up to 8 bytes. */
  readonly valueBytes: number;
  readonly maxEntries: number;
  /** BPF_F_*. */
  readonly flags: number;
  #handle: Handle;

  /** Internal: use `openPinned`, `fromFd`, `openId`, `create` or `BpfObject.map`. */
  constructor(handle: Handle) {
    const facts = native.mapInfo(handle);
    this.name = facts.name;
    this.id = facts.id;
    this.type = facts.type;
    this.keySize = facts.keySize;
    this.valueSize = facts.valueSize;
    this.valueBytes = facts.valueBytes;
    this.maxEntries = facts.maxEntries;
    this.flags = facts.flags;
    this.#handle = handle;
    forgotten.register(this, handle, this);
  }

  /** @throws BpfError NOT_FOUND when there is no pin, KIND when it is no map. */
  static openPinned(path: string, options: { readonly isReadOnly?: boolean } = {}): BpfMap {
    const flags = options.isReadOnly === true ? fileFlagReadOnly : 0;
    return new BpfMap(native.openPinned(handleKind.map, path, flags));
  }

  /** Duplicates `fd` (of this process; another thread's is fine); the caller keeps its own. */
  static fromFd(fd: number): BpfMap {
    return new BpfMap(native.openFd(handleKind.map, fd));
  }

  /** Needs CAP_SYS_ADMIN. */
  static openId(id: number): BpfMap {
    return new BpfMap(native.openId(handleKind.map, id));
  }

  static create(options: MapOptions): BpfMap {
    return new BpfMap(
      native.mapCreate(
        options.type,
        options.name,
        options.keySize,
        options.valueSize,
        options.maxEntries,
        options.flags ?? 0,
      ),
    );
  }

  /** Borrowed: valid while this map is neither disposed nor collected. */
  get fd(): number {
    return native.handleFd(this.#handle);
  }

  /** Internal: for wrappers of this package; 0 once disposed. */
  get handle(): Handle {
    return this.#handle;
  }

  /** The value, in `out` when given, else in a new array; null when there is none. */
  lookup(
    key: Uint8Array,
    out: Uint8Array = new Uint8Array(this.valueBytes),
    flags = 0,
  ): Uint8Array | null {
    return native.mapLookup(this.#handle, key, out, flags) ? out : null;
  }

  /** Whether there is a value, then copied into `value`. Allocates nothing. */
  lookupInto(key: Uint8Array, value: Uint8Array): boolean {
    return native.mapLookup(this.#handle, key, value, 0);
  }

  /**
   * `flags`: updateFlag. For a sockarray the value is a socket fd, for a program array a program fd, in
   * host byte order.
   * @throws BpfError EXISTS, NOT_FOUND by flags; FULL when the map has `maxEntries`.
   */
  update(key: Uint8Array, value: Uint8Array, flags: number = updateFlag.any): void {
    native.mapUpdate(this.#handle, key, value, flags);
  }

  /** Whether there was something to delete. */
  delete(key: Uint8Array): boolean {
    return native.mapDelete(this.#handle, key);
  }

  /**
   * The key after `key` in the kernel's order, or the first for null, into `next`. When `key` is not
   * in the map any more, a hash or trie starts again at its first.
   */
  nextKeyInto(key: Uint8Array | null, next: Uint8Array): boolean {
    return native.mapNextKey(this.#handle, key, next);
  }

  /**
   * Writes `count` elements laid end to end. Not atomic.
   * @throws BpfError with `completed`: the elements before the refused one are written.
   */
  updateBatch(
    keys: Uint8Array,
    values: Uint8Array,
    count: number,
    flags: number = updateFlag.any,
  ): void {
    native.mapUpdateBatch(this.#handle, keys, values, count, flags);
  }

  /** @throws BpfError NOT_FOUND with `completed` at the first key that is not there. */
  deleteBatch(keys: Uint8Array, count: number): void {
    native.mapDeleteBatch(this.#handle, keys, count);
  }

  /**
   * Reads up to `count` elements on from the cursor and returns how many. A hash map refuses with
   * ENOSPC (FULL) when its next bucket does not fit.
   */
  lookupBatch(cursor: BatchCursor, keys: Uint8Array, values: Uint8Array, count: number): number {
    if (cursor.isDone) return 0;
    const read = native.mapLookupBatch(
      this.#handle,
      cursor.isFirst,
      cursor.token,
      keys,
      values,
      count,
    );
    cursor.isFirst = false;
    if (read >= 0) return read;
    cursor.isDone = true;
    return -1 - read;
  }

  /**
   * All entries. Entries may be deleted, added or changed meanwhile: what is there all the time is
   * yielded exactly once from hash maps and arrays; tries are read whole before the first is yielded.
   * Maps without batches (program arrays) are walked key by key; keys without a value are left out.
   * @throws BpfError SYSCALL (EAGAIN) when concurrent deletions restarted the walk too often.
   */
  *entries(): Generator<[key: Uint8Array, value: Uint8Array], void, undefined> {
    if (!typesWithBatches.has(this.type)) {
      yield* this.#walkKeys();
    } else if (this.type === mapType.lpmTrie) {
      // A trie's batch goes on from its last key, and from the start if that key was deleted.
      yield* [...this.#walk()];
    } else {
      yield* this.#walk();
    }
  }

  /**
   * The memory of an array made with BPF_F_MMAPABLE, shared with the kernel: element i starts at
   * i * (valueSize rounded up to 8). `range`, in bytes, maps a part of it. It stays mapped until the
   * ArrayBuffer is collected or given to `unmap`, even after this map is disposed.
   */
  mmap(range: { readonly offset: number; readonly length: number } = wholeMap): ArrayBuffer {
    return native.mapMmap(this.#handle, range.offset, range.length);
  }

  /** The path must lie in a bpffs and not exist. */
  pin(path: string): void {
    native.handlePin(this.#handle, path);
  }

  /** No more writes by system calls; programs may go on writing. */
  freeze(): void {
    native.mapFreeze(this.#handle);
  }

  info(): MapFacts {
    return native.mapInfo(this.#handle);
  }

  /** Closes the fd. Later use throws BpfError CLOSED. */
  [Symbol.dispose](): void {
    forgotten.unregister(this);
    native.handleClose(this.#handle);
    this.#handle = 0;
  }

  *#walk(): Generator<[Uint8Array, Uint8Array], void, undefined> {
    const cursor = new BatchCursor(this.keySize);
    let capacity = Math.min(this.maxEntries, entriesPerBatch);
    let total = 0;
    while (!cursor.isDone) {
      // New arrays for each batch: what was yielded stays as it was.
      const keys = new Uint8Array(capacity * this.keySize);
      const values = new Uint8Array(capacity * this.valueBytes);
      let count: number;
      try {
        count = this.lookupBatch(cursor, keys, values, capacity);
      } catch (error) {
        // One bucket is larger than the batch: nothing was read, ask again with more room.
        const isShort = error instanceof BpfError && error.errno === enospc;
        if (!isShort || capacity >= batchEntriesMax) throw error;
        capacity *= 2;
        continue;
      }
      total += count;
      this.#checkRestarts(total);
      for (let i = 0; i < count; i++) {
        yield [
          keys.subarray(i * this.keySize, (i + 1) * this.keySize),
          values.subarray(i * this.valueBytes, (i + 1) * this.valueBytes),
        ];
      }
    }
  }

  *#walkKeys(): Generator<[Uint8Array, Uint8Array], void, undefined> {
    let total = 0;
    let key: Uint8Array | null = null;
    for (;;) {
      const next: Uint8Array = new Uint8Array(this.keySize);
      if (!this.nextKeyInto(key, next)) return;
      this.#checkRestarts(++total);
      const value = this.lookup(next);
      if (value !== null) yield [next.slice(), value];
      key = next;
    }
  }

  /** A walk by key begins again when the key it stands on is deleted: bounded, or it might not end. */
  #checkRestarts(total: number): void {
    if (total <= 4 * this.maxEntries + entriesPerBatch) return;
    throw new BpfError({
      code: 'TANDEM_BPF_SYSCALL',
      action: 'iterate, against concurrent deletions, map',
      object: this.name,
      errno: 11,
      errnoName: 'EAGAIN',
      errnoText: 'Resource temporarily unavailable',
    });
  }
}

/**
 * Unmaps what `BpfMap.mmap` gave: the buffer and its views have length 0 afterwards. Only for memory
 * that no other native code still points into.
 */
export function unmap(buffer: ArrayBuffer): void {
  native.bufferDetach(buffer);
}

/** Ids of all maps of the kernel. Needs CAP_SYS_ADMIN. */
export function* mapIds(): Generator<number, void, undefined> {
  for (let id = native.nextId(handleKind.map, 0); id !== 0; ) {
    yield id;
    id = native.nextId(handleKind.map, id);
  }
}
