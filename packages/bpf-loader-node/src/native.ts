// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// Loads build/bpf_loader.node and gives it types. Internal: everything else in this package goes
// through here, and users go through the wrappers. The addon checks every argument itself.

import { createRequire } from 'node:module';

import { BpfError } from './errors.ts';
import type { LinkId, ProgramId } from './ids.ts';

/** A number of the addon's handle table; 0 is never a handle. */
export type Handle = number;

/** Kinds of handles that have an fd: `enum handle_kind` of native/loader.h. */
export const handleKind = { link: 2, program: 3, map: 4 } as const;
export type HandleKind = (typeof handleKind)[keyof typeof handleKind];

/** A map as an object file declares it. */
export interface MapDeclaration {
  readonly name: string;
  /** BPF_MAP_TYPE_*. */
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** BPF_F_*. */
  readonly flags: number;
}

/** A program as an object file declares it. */
export interface ProgramDeclaration {
  readonly name: string;
  readonly section: string;
  /** BPF_PROG_TYPE_*. */
  readonly type: number;
  readonly expectedAttachType: number;
  readonly autoload: boolean;
}

export interface MapFacts extends MapDeclaration {
  readonly id: number;
  /** Bytes that one lookup copies: for a per-CPU map all CPUs, each rounded up to 8. */
  readonly valueBytes: number;
}

export interface ProgramFacts {
  readonly id: number;
  /** BPF_PROG_TYPE_*. */
  readonly type: number;
  /** At most 15 characters: the kernel's limit. */
  readonly name: string;
  /** Hash of the instructions, 16 hexadecimal digits. */
  readonly tag: string;
  /** CLOCK_BOOTTIME at load. */
  readonly loadedNs: bigint;
  /** Both 0 unless the sysctl kernel.bpf_stats_enabled is on. */
  readonly runNs: bigint;
  readonly runCount: bigint;
  readonly verifiedInstructions: number;
}

export interface TestRunFacts {
  readonly retval: number;
  readonly dataSize: number;
  readonly ctxSize: number;
  readonly durationNs: number;
}

export interface RawLinkFacts {
  readonly type: number;
  readonly id: LinkId;
  readonly programId: ProgramId;
  readonly ifindex?: number;
  readonly attachType?: number;
  readonly family?: number;
  readonly hook?: number;
  readonly priority?: number;
  readonly flags?: number;
  readonly cgroupId?: bigint;
}

export interface TcxFacts {
  readonly revision: bigint;
  readonly programs: readonly { readonly programId: ProgramId; readonly linkId: LinkId }[];
}

export interface RingFacts {
  readonly records: number;
  readonly batches: number;
  readonly oversized: number;
  readonly fenced: number;
  readonly repaired: number;
  /** Where it reads next. */
  readonly position: number;
  /** Where the last record that was put into the ring ends. */
  readonly end: number;
}

interface Native {
  setErrorClass(constructor: typeof BpfError): void;
  handleClose(handle: Handle): void;
  handleFd(handle: Handle): number;
  handlePin(handle: Handle, path: string): void;
  openPinned(kind: HandleKind, path: string, fileFlags: number): Handle;
  openFd(kind: HandleKind, fd: number): Handle;
  openId(kind: HandleKind, id: number): Handle;
  nextId(kind: HandleKind, id: number): number;
  objectOpen(path: string, name: string | null): Handle;
  objectLoad(object: Handle): void;
  objectMaps(object: Handle): MapDeclaration[];
  objectPrograms(object: Handle): ProgramDeclaration[];
  objectMap(object: Handle, name: string): Handle;
  objectProgram(object: Handle, name: string): Handle;
  objectSetRodata(object: Handle, variable: string, bytes: Uint8Array): void;
  objectReusePin(object: Handle, map: string, path: string): void;
  objectSetMaxEntries(object: Handle, map: string, count: number): void;
  objectSetAutoload(object: Handle, program: string, isLoaded: boolean): void;
  objectBtf(object: Handle): Uint8Array;
  mapCreate(
    type: number,
    name: string,
    keySize: number,
    valueSize: number,
    maxEntries: number,
    flags: number,
  ): Handle;
  mapInfo(map: Handle): MapFacts;
  mapLookup(map: Handle, key: Uint8Array, value: Uint8Array, flags: number): boolean;
  mapUpdate(map: Handle, key: Uint8Array, value: Uint8Array, flags: number): void;
  mapDelete(map: Handle, key: Uint8Array): boolean;
  mapNextKey(map: Handle, key: Uint8Array | null, next: Uint8Array): boolean;
  mapUpdateBatch(
    map: Handle,
    keys: Uint8Array,
    values: Uint8Array,
    count: number,
    flags: number,
  ): void;
  mapDeleteBatch(map: Handle, keys: Uint8Array, count: number): void;
  mapLookupBatch(
    map: Handle,
    isFirst: boolean,
    token: Uint8Array,
    keys: Uint8Array,
    values: Uint8Array,
    count: number,
  ): number;
  mapMmap(map: Handle, offset: number, length: number): ArrayBuffer;
  mapFreeze(map: Handle): void;
  bufferDetach(buffer: ArrayBuffer): void;
  programInfo(program: Handle): ProgramFacts;
  programTestRun(
    program: Handle,
    data: Uint8Array | null,
    ctx: Uint8Array | null,
    dataOut: Uint8Array | null,
    ctxOut: Uint8Array | null,
    repeat: number,
    flags: number,
  ): TestRunFacts;
  programRunSyscall(program: Handle, ctx: Uint8Array): number;
  linkAttachTcx(
    program: Handle,
    ifindex: number,
    attachType: number,
    flags: number,
    relative: number,
  ): Handle;
  linkEnsureTcxPins(
    program: Handle,
    attachType: number,
    flags: number,
    prefix: string,
    ifindexes: Uint32Array,
  ): Promise<(BpfError | null)[]>;
  linkAttachNetfilter(
    program: Handle,
    family: number,
    hook: number,
    priority: number,
    flags: number,
  ): Handle;
  linkAttachCgroup(program: Handle, path: string, attachType: number): Handle;
  linkUpdate(link: Handle, program: Handle): void;
  linkDetach(link: Handle): void;
  linkInfo(link: Handle): RawLinkFacts;
  tcxQuery(ifindex: number, attachType: number): TcxFacts;
  reuseportAttach(program: Handle, socketFd: number): void;
  reuseportDetach(socketFd: number): void;
  ringOpen(
    map: Handle,
    batch: Uint8Array,
    lengths: Uint32Array,
    onRecords: (bytes: Uint8Array, lengths: Uint32Array, count: number) => void,
    positions: Float64Array | null,
  ): Handle;
  ringConsume(ring: Handle): number;
  ringCommit(ring: Handle, position: number): boolean;
  ringRewind(ring: Handle): number;
  ringStats(ring: Handle): RingFacts;
  ringSetRef(ring: Handle, keepsAlive: boolean): void;
  featureNames(): string[];
  featureProbe(index: number): void;
  netfilterIsTaken(family: number, hook: number, priority: number): boolean;
  netnsCookie(): bigint;
  interfaceIndex(name: string): number;
}

function loadNative(): Native {
  const uv = process.versions['uv'] ?? 'none';
  // The addon uses uv_poll_t by value, whose size is fixed only within libuv's major version.
  if (!uv.startsWith('1.')) {
    throw new BpfError({
      code: 'TANDEM_BPF_RUNTIME',
      action: `use libuv ${uv} (built for 1.x) in`,
      object: `Node ${process.version}`,
      errno: 0,
    });
  }
  // The same path from src and from dist.
  const loaded = createRequire(import.meta.url)('../build/bpf_loader.node') as Native;
  loaded.setErrorClass(BpfError);
  return loaded;
}

export const native: Native = loadNative();

/**
 * Closes forgotten objects when they are collected: a bound for fd leaks, not a way to close. Links are
 * never registered here, because a link that closes at some collection is policy that ends at random.
 */
export const forgotten: FinalizationRegistry<Handle> = new FinalizationRegistry((handle) => {
  native.handleClose(handle);
});
