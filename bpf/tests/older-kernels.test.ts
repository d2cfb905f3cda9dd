// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The branches for kernels without the newer fields (before 6.8, before 6.10), on this one: the object is built as if
 * the fields were not there. Kernels that are really older: ./run test --kernels.
 */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { BpfObject } from '@tandem/bpf-loader-node/object';

const directory = fileURLToPath(new URL('..', import.meta.url));

test('the verifier accepts the programs with the branches for older kernels', () => {
  execFileSync('make', ['-s', 'older-object'], { cwd: directory });
  using object = BpfObject.open(`${directory}build/test/older.bpf.o`);
  object.load();
  for (const { name } of object.programs()) {
    assert.ok(object.program(name).info().verifiedInstructions > 0, name);
  }
});

/** Before 6.9 the verifier rounds each frame up to 32 octets, since then to 16 (round_up_stack_depth). */
const frameGrain = 32;
const stackMax = 512;
const framesMax = 8;

interface Frame {
  /** Octets of its stack that the function uses. */
  octets: number;
  /** Functions that it calls, or gives to bpf_loop. */
  readonly callees: Set<string>;
}

/** By name, from the compiler's assembly. */
function framesOf(assembly: string): ReadonlyMap<string, Frame> {
  const functions = [...assembly.matchAll(/^\s*\.type\s+(\w+),@function/gm)];
  const frames = new Map<string, Frame>(
    functions.map(([, name]) => [name!, { octets: 0, callees: new Set() }]),
  );
  let frame: Frame | undefined;
  for (const line of assembly.split('\n')) {
    frame = frames.get(/^(\w+):/.exec(line)?.[1] ?? '') ?? frame;
    if (frame === undefined) continue;
    for (const [, octets] of line.matchAll(/r10 - (\d+)/g)) {
      frame.octets = Math.max(frame.octets, Number(octets));
    }
    const address = Number(/r\d+ \+= -(\d+)$/.exec(line)?.[1] ?? 0);
    if (address <= stackMax) frame.octets = Math.max(frame.octets, address);
    const callee = /call (\w+)$/.exec(line)?.[1] ?? /r\d+ = (\w+) ll$/.exec(line)?.[1];
    if (callee !== undefined && frames.has(callee)) frame.callees.add(callee);
  }
  return frames;
}

interface Chain {
  readonly octets: number;
  readonly names: readonly string[];
}

/** The chain of calls with most stack. */
function deepest(frames: ReadonlyMap<string, Frame>, name: string): Chain {
  const { octets, callees } = frames.get(name)!;
  const own = Math.ceil(Math.max(octets, 1) / frameGrain) * frameGrain;
  const below = [...callees].map((callee) => deepest(frames, callee));
  const most = below.reduce((a, b) => (b.octets > a.octets ? b : a), { octets: 0, names: [] });
  return { octets: own + most.octets, names: [`${name} ${octets}`, ...most.names] };
}

test('no chain of calls has more stack or frames than older kernels give', () => {
  execFileSync('make', ['-s', 'older-assembly'], { cwd: directory });
  const frames = framesOf(readFileSync(`${directory}build/test/older.s`, 'utf8'));
  using object = BpfObject.open(`${directory}build/test/older.bpf.o`);
  for (const { name } of object.programs()) {
    const { octets, names } = deepest(frames, name);
    assert.ok(octets <= stackMax, `${octets} octets: ${names.join(', ')}`);
    assert.ok(names.length <= framesMax, names.join(', '));
  }
  const stack = (name: string): number => deepest(frames, name).octets;
  assert.ok(stack('learn') > 300 && stack('judge') > 300, 'the chains are found');
});
