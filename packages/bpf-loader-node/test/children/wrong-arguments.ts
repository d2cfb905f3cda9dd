// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// Calls every native function with arguments that are mostly of the right kind and sometimes anything.
// Each call must return, or throw a TypeError, RangeError or BpfError; afterwards everything still
// works, and no fd has leaked.

import assert from 'node:assert/strict';

import * as fc from 'fast-check';

import { BpfError } from '../../src/errors.ts';
import { native } from '../../src/native.ts';
import { BpfObject } from '../../src/object.ts';
import { countFds, objectPath, u32 } from '../fixture.ts';

type HandleKind = 'object' | 'map' | 'program' | 'link' | 'ring';
type Kind =
  | HandleKind
  | 'number'
  | 'flags'
  | 'flag'
  | 'bytes'
  | 'words'
  | 'text'
  | 'call'
  | 'other';

/** Arguments of each function; `openId` and `setErrorClass` would reach beyond this process or test. */
const signatures: Readonly<Record<string, readonly Kind[]>> = {
  handleClose: ['map'],
  handleFd: ['map'],
  handlePin: ['program', 'text'],
  openPinned: ['number', 'text', 'flags'],
  openFd: ['number', 'number'],
  nextId: ['number', 'number'],
  objectOpen: ['text', 'text'],
  objectLoad: ['object'],
  objectMaps: ['object'],
  objectPrograms: ['object'],
  objectMap: ['object', 'text'],
  objectProgram: ['object', 'text'],
  objectSetRodata: ['object', 'text', 'bytes'],
  objectReusePin: ['object', 'text', 'text'],
  objectSetMaxEntries: ['object', 'text', 'number'],
  objectSetAutoload: ['object', 'text', 'flag'],
  objectBtf: ['object'],
  mapCreate: ['number', 'text', 'number', 'number', 'number', 'flags'],
  mapInfo: ['map'],
  mapLookup: ['map', 'bytes', 'bytes', 'flags'],
  mapUpdate: ['map', 'bytes', 'bytes', 'flags'],
  mapDelete: ['map', 'bytes'],
  mapNextKey: ['map', 'bytes', 'bytes'],
  mapUpdateBatch: ['map', 'bytes', 'bytes', 'number', 'flags'],
  mapDeleteBatch: ['map', 'bytes', 'number'],
  mapLookupBatch: ['map', 'flag', 'bytes', 'bytes', 'bytes', 'number'],
  mapMmap: ['map', 'number', 'number'],
  mapFreeze: ['map'],
  bufferDetach: ['other'],
  programInfo: ['program'],
  programTestRun: ['program', 'bytes', 'bytes', 'bytes', 'bytes', 'number', 'flags'],
  programRunSyscall: ['program', 'bytes'],
  linkAttachTcx: ['program', 'number', 'number', 'flags', 'flags'],
  linkEnsureTcxPins: ['program', 'number', 'flags', 'text', 'words'],
  linkAttachNetfilter: ['program', 'number', 'number', 'number', 'flags'],
  linkAttachCgroup: ['program', 'text', 'number'],
  netfilterIsTaken: ['number', 'number', 'number'],
  linkUpdate: ['link', 'program'],
  linkDetach: ['link'],
  linkInfo: ['link'],
  tcxQuery: ['number', 'number'],
  reuseportAttach: ['program', 'number'],
  reuseportDetach: ['number'],
  ringOpen: ['map', 'bytes', 'words', 'call', 'other'],
  ringConsume: ['ring'],
  ringCommit: ['ring', 'number'],
  ringRewind: ['ring'],
  ringStats: ['ring'],
  ringSetRef: ['ring', 'flag'],
  featureNames: [],
  featureProbe: ['number'],
  netnsCookie: [],
  interfaceIndex: ['text'],
};
/** Functions that give a handle. */
const opens: ReadonlySet<string> = new Set([
  ...['openPinned', 'openFd', 'objectOpen', 'objectMap', 'objectProgram', 'mapCreate', 'ringOpen'],
  ...['linkAttachTcx', 'linkAttachNetfilter', 'linkAttachCgroup'],
]);

const runs = 8000;
const callsOfOneSet = 400;
const seed = Number(process.argv[2]);

let objects: BpfObject[] = [];
let handles: Partial<Record<HandleKind, number[]>> = {};

/** Opens what the calls work on; again and again, because they close, freeze and detach it. */
function openAll(): void {
  const loaded = BpfObject.open(objectPath('loader'));
  loaded.load();
  const opened = BpfObject.open(objectPath('loader'));
  objects = [loaded, opened];
  const maps = ['table', 'trie', 'shared', 'counters', 'events', 'slots', 'listeners', '.rodata'];
  const programs = ['compute', 'emit', 'count_packet', 'accept_all', 'select_second'];
  const program = (name: string): number => loaded.program(name).handle;
  const map = (name: string): number => loaded.map(name).handle;
  const batch = new Uint8Array(4096);
  handles = {
    object: [native.objectOpen(objectPath('loader'), null)],
    map: maps.map(map),
    program: programs.map(program),
    link: [
      native.linkAttachTcx(program('other_packet'), 1, 47, 0, 0),
      native.linkAttachNetfilter(program('accept_all'), 2, 3, 77, 0),
    ],
    ring: [native.ringOpen(map('events'), batch, new Uint32Array(16), () => undefined, null)],
  };
}

function closeAll(): void {
  for (const handle of Object.values(handles).flat()) native.handleClose(handle);
  for (const object of objects) object[Symbol.dispose]();
}

const detached = new Uint8Array(64);
structuredClone(detached.buffer, { transfer: [detached.buffer] });

const handleKinds: readonly HandleKind[] = ['object', 'map', 'program', 'link', 'ring'];
const anyHandle = fc
  .tuple(fc.constantFrom(...handleKinds), fc.nat(100))
  .map(([kind, index]) => ({ kind, index }));
const lengths = [0, 4, 4, 4, 4, 8, 8, 16, 56, 56, 64, 4096];
const bytes = fc.constantFrom(...lengths).map((length) => new Uint8Array(length));
const odd = fc.constantFrom(1, 3, 5, 65_536, 70_000).map((length) => new Uint8Array(length));
const small = fc.constantFrom(0, 1, 2, 3, 4, 5, 8, 10, 27, 46, 47, 64, 4096);
const huge = fc.constantFrom(-1, 0.5, NaN, Infinity, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53);
const text = fc.constantFrom(
  ...['table', 'compute', 'config', 'single', '', 'x'.repeat(70), 'y'.repeat(5000), 'a\0b'],
  ...['\ud800', '/nonexistent/pin', '/tmp', '/dev/null', objectPath('loader'), 'lo'],
);
const other = fc.constantFrom<unknown>(
  ...[undefined, null, true, false, {}, [], Symbol('s'), 5n, () => undefined, BpfError],
  ...[detached, new Uint32Array(16), new DataView(new ArrayBuffer(8)), new ArrayBuffer(64)],
  ...[new Uint8Array(new SharedArrayBuffer(56)), Buffer.alloc(4), new Float64Array(2)],
  new Uint8Array(new ArrayBuffer(56, { maxByteLength: 128 })),
);
const anything = fc.oneof(anyHandle, bytes, odd, small, huge, text, other);
const argument = fc.record({
  isRight: fc.integer({ min: 1, max: 10 }).map((dice) => dice > 1),
  index: fc.nat(100),
  number: fc.oneof({ weight: 9, arbitrary: small }, { weight: 1, arbitrary: huge }),
  flags: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: small }),
  flag: fc.boolean(),
  bytes,
  words: fc.constantFrom(0, 1, 16, 70_000).map((length) => new Uint32Array(length)),
  text,
  call: fc.constant(() => undefined),
  other,
  anything,
});
type Argument = typeof argument extends fc.Arbitrary<infer Value> ? Value : never;

function handleOf(kind: HandleKind, index: number): number {
  const open = handles[kind] ?? [];
  return open[index % Math.max(open.length, 1)] ?? 0;
}

function isHandleKind(kind: Kind): kind is HandleKind {
  return (handleKinds as readonly Kind[]).includes(kind);
}

function valueOf(kind: Kind, drawn: Argument): unknown {
  if (!drawn.isRight) {
    const { anything: value } = drawn;
    const isHandle = typeof value === 'object' && value !== null && 'kind' in value;
    return isHandle ? handleOf((value as { kind: HandleKind }).kind, drawn.index) : value;
  }
  return isHandleKind(kind) ? handleOf(kind, drawn.index) : drawn[kind];
}

function isExpected(error: unknown): boolean {
  if (error instanceof BpfError) return error.code.startsWith('TANDEM_BPF_');
  return error instanceof TypeError || error instanceof RangeError;
}

let calls = 0;
let last = '';
/** Work of other threads, with fds of its own. */
const pending: Promise<unknown>[] = [];
const accepted = new Map<string, number>();

function call(name: string, values: readonly unknown[]): void {
  if (calls % callsOfOneSet === 0) {
    closeAll();
    openAll();
    globalThis.gc?.();
  }
  calls += 1;
  last = name;
  const fn = (native as unknown as Record<string, (...parameters: unknown[]) => unknown>)[name];
  try {
    const result = fn?.(...values);
    accepted.set(name, (accepted.get(name) ?? 0) + 1);
    if (opens.has(name)) native.handleClose(result as number);
    if (result instanceof Promise) pending.push(result);
  } catch (error) {
    assert.ok(isExpected(error), `${name}: ${String(error)}`);
  }
}

async function settledFds(): Promise<number> {
  await Promise.all(pending.splice(0));
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  return countFds();
}

process.on('exit', (code) => {
  if (code !== 0) console.error(`seed ${seed}, call ${calls}: ${last}`);
});

const known = Object.keys(native).filter((name) => name !== 'openId' && name !== 'setErrorClass');
assert.deepEqual(Object.keys(signatures).toSorted(), known.toSorted(), 'a signature for each');

openAll();
closeAll();
const fdsBefore = await settledFds();
fc.assert(
  fc.property(
    fc.constantFrom(...Object.entries(signatures)),
    fc.array(argument, { minLength: 8, maxLength: 8 }),
    fc.nat(8),
    ([name, kinds], drawn, surplus) => {
      // Now and then too few arguments, or too many.
      const count = surplus === 0 ? kinds.length - 1 : surplus === 1 ? 8 : kinds.length;
      const values = drawn.slice(0, Math.max(count, 0));
      call(
        name,
        values.map((value, i) => valueOf(kinds[i] ?? 'other', value)),
      );
    },
  ),
  { seed, numRuns: runs, endOnFailure: true },
);
closeAll();
assert.equal(await settledFds(), fdsBefore);

const acceptedCalls = [...accepted.values()].reduce((sum, count) => sum + count, 0);
console.log(`${calls} calls, ${acceptedCalls} of them accepted, of ${accepted.size} functions`);
assert.ok(acceptedCalls > runs / 5 && accepted.size > 30, 'too few calls reach the kernel');

using after = BpfObject.open(objectPath('loader'));
after.load();
assert.equal(after.program('compute').runSyscall(u32(1, 1, 0, 0)), 0);
