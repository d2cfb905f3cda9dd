// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { objectPath, PinDirectory, u32 } from '../test/fixture.ts';
import { HeldRing } from './held-ring.ts';
import type { BpfMap } from './map.ts';
import { BpfObject } from './object.ts';

const small = 0;
/** Header, 12 bytes, padding. */
const recordBytes = 24;

function loaded(): BpfObject {
  const object = BpfObject.open(objectPath('loader'));
  object.load();
  return object;
}

function emit(object: BpfObject, count: number): number {
  return object.program('emit').runSyscall(u32(count, small));
}

/** Positions of what `emit` submits; it discards every third. */
function submitted(count: number, from = 0): number[] {
  return Array.from({ length: count }, (_, i) => i)
    .filter((i) => i % 3 !== 2)
    .map((i) => from + i * recordBytes);
}

function reader(map: BpfMap): { ring: HeldRing; positions: number[] } {
  const positions: number[] = [];
  const ring = new HeldRing(map, (_bytes, _lengths, at, count) => {
    positions.push(...at.subarray(0, count));
  });
  return { ring, positions };
}

test('what is not committed is read again by the next reader, at the same positions', () => {
  using object = loaded();
  const map = object.map('events');
  emit(object, 9);
  const first = reader(map);
  assert.equal(first.ring.read(), 6);
  assert.equal(first.ring.read(), 0, 'each once');
  assert.ok(first.ring.commit(3 * recordBytes));
  const second = reader(map);
  assert.equal(second.ring.read(), 4);
  assert.deepEqual(first.positions, submitted(9));
  assert.deepEqual(second.positions, submitted(6, 3 * recordBytes));
  assert.equal(first.ring.rewind(), 3 * recordBytes);
  assert.equal(first.ring.read(), 4);
  first.ring.close();
  second.ring.close();
});

test('who is overtaken cannot move the position, and goes on behind the other', () => {
  using object = loaded();
  const map = object.map('events');
  emit(object, 9);
  const slow = reader(map);
  const fast = reader(map);
  slow.ring.read();
  fast.ring.read();
  assert.ok(fast.ring.commit(6 * recordBytes));
  assert.equal(slow.ring.commit(3 * recordBytes), false);
  emit(object, 3);
  assert.equal(slow.ring.read(), 2, 'what it has read it does not read again');
  assert.deepEqual(slow.positions, [...submitted(9), ...submitted(3, 9 * recordBytes)]);
  assert.ok(slow.ring.commit(12 * recordBytes), 'now it knows the position');
  slow.ring.close();
  fast.ring.close();
});

test('a full ring takes no more until something is committed', () => {
  using object = loaded();
  const { ring, positions } = reader(object.map('events'));
  const sent = emit(object, 5000);
  assert.ok(sent < 5000);
  while (ring.read() > 0);
  assert.equal(emit(object, 3), 0, 'reading frees nothing');
  assert.ok(ring.commit(ring.stats().position));
  assert.equal(emit(object, 3), 3);
  assert.equal(positions.length, submitted(sent).length);
  ring.close();
});

/** Writes the shared position of the one ring that this process has mapped. */
function writeConsumerPage(position: bigint): void {
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n');
  const pages = maps.filter((line) => / rw-s .*bpf-map/.test(line));
  assert.equal(pages.length, 1);
  const memory = openSync('/proc/self/mem', 'r+');
  const address = Number.parseInt(pages[0] ?? '', 16);
  writeSync(memory, new BigUint64Array([position]), 0, 8, address);
  closeSync(memory);
}

test('a position that cannot be is replaced by the end of the ring', async () => {
  // Rings that were closed before are unmapped when the loop turns.
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
  using object = loaded();
  const map = object.map('events');
  emit(object, 3);
  const { ring } = reader(map);
  for (const nonsense of [1n << 40n, 5n, 1n << 63n]) {
    writeConsumerPage(nonsense);
    ring.read();
    emit(object, 3);
    assert.equal(ring.read(), 2, `after ${nonsense}`);
  }
  assert.equal(ring.stats().repaired, 3);
  ring.close();
});

test('wrong positions', () => {
  using object = loaded();
  const { ring } = reader(object.map('events'));
  for (const position of [-1, 1, Number.NaN])
    assert.throws(() => ring.commit(position), RangeError);
  ring.close();
});

class Reader {
  readonly #child: ChildProcess;
  isStopped = false;
  error = '';

  constructor(pin: string, output: string) {
    const script = fileURLToPath(new URL('../test/children/held-reader.ts', import.meta.url));
    const flags = ['--conditions=@tandem/source', '--disable-warning=ExperimentalWarning'];
    this.#child = spawn(process.execPath, [...flags, script, pin, output]);
    this.#child.stderr?.on('data', (text: Buffer) => {
      this.error += text.toString();
    });
  }

  async ready(): Promise<this> {
    await once(this.#child.stdout ?? this.#child, 'data');
    return this;
  }

  stop(): void {
    this.#child.kill(this.isStopped ? 'SIGCONT' : 'SIGSTOP');
    this.isStopped = !this.isStopped;
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}

/** Position and number of every record that a reader wrote down before it was killed. */
function written(directory: string): Map<number, number> {
  const records = new Map<number, number>();
  for (const file of readdirSync(directory)) {
    const bytes = readFileSync(join(directory, file));
    const whole = bytes.subarray(0, bytes.length - (bytes.length % 16));
    for (let at = 0; at < whole.length; at += 16) {
      records.set(whole.readDoubleLE(at), whole.readDoubleLE(at + 8));
    }
  }
  return records;
}

test('two readers at once, killed and stopped at random: each record is read, none is torn', async () => {
  using directory = new PinDirectory();
  using object = loaded();
  const pin = join(directory.path, 'events');
  object.map('events').pin(pin);
  const output = mkdtempSync(join(tmpdir(), 'tandem-held-ring-'));
  let lives = 0;
  const start = (): Promise<Reader> => new Reader(pin, join(output, String(lives++))).ready();
  const readers = await Promise.all([start(), start()]);
  const rounds = 12;
  const burst = 300;
  let emitted = 0;
  const bursts: number[] = [];
  const deadline = performance.now() + 40_000;
  const emitAll = async (count: number): Promise<void> => {
    for (let i = 0; i < count; ) {
      assert.ok(performance.now() < deadline, 'the readers do not make room');
      const sent = emit(object, burst);
      bursts.push(sent);
      emitted += sent;
      i += sent;
      await delay(1);
    }
  };
  for (let round = 0; round < rounds; round++) {
    await emitAll(3000);
    const index = round % 2;
    const victim = readers[index] as Reader;
    if (Math.random() < 0.5) {
      victim.stop();
      await emitAll(3000);
      victim.stop();
    } else {
      await victim.kill();
      await emitAll(3000);
      assert.equal(victim.error, '');
      readers[index] = await start();
    }
  }
  // Both may have been killed with something in hand: a last one reads what is left.
  for (const one of readers) {
    await one.kill();
    assert.equal(one.error, '');
  }
  const rest = reader(object.map('events'));
  while (rest.ring.read() > 0);
  rest.ring.close();
  const records = written(output);
  let position = 0;
  let number = 0;
  for (const sent of bursts) {
    for (let i = 0; i < sent; i++, position += recordBytes) {
      if (i % 3 === 2) continue;
      number += 1;
      const found = records.get(position) ?? (rest.positions.includes(position) ? i : undefined);
      assert.equal(found, i, `record ${number} at ${position} of ${emitted}`);
      records.delete(position);
    }
  }
  assert.equal(records.size, 0, 'nothing that was not emitted');
  rmSync(output, { recursive: true });
});
