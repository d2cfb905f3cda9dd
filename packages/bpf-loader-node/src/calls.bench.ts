// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// What one call costs: `pnpm --filter @tandem/bpf-loader-node bench`. Rounds are interleaved; minimum
// and median are printed. Look at the load average first: neighbours only make it slower.

import { loadavg } from 'node:os';

import { objectPath, u32 } from '../test/fixture.ts';
import { BpfMap, mapType } from './map.ts';
import { native } from './native.ts';
import { BpfObject } from './object.ts';

const rounds = 15;
const callsOfRound = 20_000;
const batch = 1000;

using object = BpfObject.open(objectPath('loader'));
object.load();
const compute = object.program('compute');
using hash = BpfMap.create({
  type: mapType.hash,
  name: 'bench_hash',
  keySize: 16,
  valueSize: 64,
  maxEntries: 65_536,
});
const key = new Uint8Array(16).fill(1);
const value = new Uint8Array(64);
const missing = new Uint8Array(16).fill(2);
const job = u32(1, 2, 0, 0);
const keys = new Uint8Array(16 * batch);
for (let i = 0; i < batch; i++) keys.set(u32(i), 16 * i);
const values = new Uint8Array(64 * batch);
hash.update(key, value);

interface Subject {
  readonly name: string;
  /** Elements of one call. */
  readonly elements: number;
  readonly call: () => unknown;
  readonly nanoseconds: number[];
}

function subject(name: string, call: () => unknown, elements = 1): Subject {
  return { name, call, elements, nanoseconds: [] };
}

const subjects: readonly Subject[] = [
  subject('crossing into C and back (handleFd)', () => native.handleFd(hash.handle)),
  subject('lookupInto, hash 16 -> 64 bytes', () => hash.lookupInto(key, value)),
  subject('lookupInto, no such key', () => hash.lookupInto(missing, value)),
  subject('lookup, with a new array', () => hash.lookup(key)),
  subject('update', () => hash.update(key, value)),
  subject('updateBatch, per element of 1000', () => hash.updateBatch(keys, values, batch), batch),
  subject('runSyscall, 16-byte ctx', () => compute.runSyscall(job)),
];

function measure({ call, elements, nanoseconds }: Subject): void {
  const calls = Math.max(1, callsOfRound / elements);
  const start = process.hrtime.bigint();
  for (let i = 0; i < calls; i++) call();
  nanoseconds.push(Number(process.hrtime.bigint() - start) / (calls * elements));
}

for (let round = 0; round < rounds; round++) for (const each of subjects) measure(each);

console.log(`load average ${loadavg()[0]?.toFixed(2)}, Node ${process.version}`);
for (const { name, nanoseconds } of subjects) {
  const sorted = nanoseconds.toSorted((a, b) => a - b);
  const minimum = sorted[0]?.toFixed(0).padStart(6);
  const median = sorted[rounds >> 1]?.toFixed(0).padStart(6);
  console.log(`${minimum} ns minimum ${median} ns median  ${name}`);
}
