// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Cost of a datagram through the addon: CPU time of an echo server (received with original
 * destination, answered from it) in µs per datagram, beside the same server in C. Rounds of both
 * are interleaved; trust the ratios, not the absolutes.
 *
 *   make bench && node --conditions=@tandem/source src/loop.bench.ts [rounds] [seconds]
 *
 * `rate`: 2,000 a second, about one per wake. `max`: 128 in flight, full batches.
 */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeFd } from './fd.ts';
import * as layout from './layout.ts';
import { UdpLoop } from './udp-loop.ts';
import { createUpstreamUdp } from './upstream.ts';

const rounds = Number(process.argv[2] ?? 7);
const seconds = Number(process.argv[3] ?? 1);
const socketCount = 8;
const inFlightMax = 128;
const ratePerSecond = 2000;
const queryBytes = 45;

interface Subject {
  readonly name: string;
  readonly port: number;
  readonly process: ChildProcess;
}

async function start(name: string, port: number, command: readonly string[]): Promise<Subject> {
  const [file, ...args] = command as [string, ...string[]];
  const child = spawn(file, [...args, `${port}`], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return { name, port, process: child };
}

/** CPU time of all threads of a process, ns. */
function cpuNs(pid: number): number {
  let sum = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    sum += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
  }
  return sum;
}

/** Sends over `socketCount` sockets and counts what comes back. */
class Load {
  answered = 0;
  sent = 0;
  refill = false;
  readonly #loop: UdpLoop;
  readonly #handles: readonly number[];
  #next = 0;

  constructor(port: number) {
    this.#loop = new UdpLoop({
      buffer: new Uint8Array(64 * 512),
      slotBytes: 512,
      onBatch: (_handle, count) => {
        this.answered += count;
        if (this.refill) this.#append(count);
      },
      onSocketError: (_handle, errno) => assert.fail(`socket error ${errno}`),
    });
    const address = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1);
    this.#handles = Array.from({ length: socketCount }, () => {
      const fd = createUpstreamUdp({ address, port });
      try {
        return this.#loop.add(fd, 'connected');
      } finally {
        closeFd(fd);
      }
    });
  }

  /** As the proxy does: one socket for a batch, another for the next. */
  #append(count: number): void {
    const handle = this.#handles[this.#next++ % socketCount]!;
    for (let i = 0; i < count; i++) {
      this.#loop.tx[i * layout.RECORD_WORDS + layout.TX_HANDLE] = handle;
      this.#loop.tx[i * layout.RECORD_WORDS + layout.TX_LENGTH] = queryBytes;
    }
    this.#loop.header[layout.HEADER_TX_COUNT] = count;
    this.sent += count;
  }

  send(count: number): void {
    this.#append(count);
    this.#loop.flush();
  }

  close(): void {
    this.#loop.close();
  }
}

interface Sample {
  readonly cpuUs: number;
  readonly perSecond: number;
}

async function measure(subject: Subject, mode: 'rate' | 'max'): Promise<Sample> {
  const load = new Load(subject.port);
  const pid = subject.process.pid as number;
  const begin = performance.now();
  const cpuBefore = cpuNs(pid);
  if (mode === 'max') {
    load.refill = true;
    for (let i = 0; i < inFlightMax / 16; i++) load.send(16);
    await sleep(seconds * 1000);
    load.refill = false;
  } else {
    for (let elapsed = 0; elapsed < seconds; elapsed = (performance.now() - begin) / 1000) {
      const due = Math.floor(elapsed * ratePerSecond) - load.sent;
      for (let i = 0; i < due; i++) load.send(1);
      await sleep(1);
    }
  }
  const elapsedMs = performance.now() - begin;
  await sleep(20);
  const sample = {
    cpuUs: (cpuNs(pid) - cpuBefore) / 1000 / load.answered,
    perSecond: (load.answered / elapsedMs) * 1000,
  };
  load.close();
  return sample;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

const here = (path: string): string => new URL(path, import.meta.url).pathname;
const subjects = await Promise.all([
  start('c', 15_401, [here('../build/echo')]),
  start('addon', 15_402, [
    process.execPath,
    '--conditions=@tandem/source',
    here('../bench/echo-process.ts'),
  ]),
]);
for (const subject of subjects) await measure(subject, 'max'); // warm up
process.stdout.write(
  `load average ${loadavg()
    .map((l) => l.toFixed(1))
    .join(' ')}\n`,
);
for (const mode of ['rate', 'max'] as const) {
  const samples = new Map<string, Sample[]>(subjects.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const subject of subjects) {
      samples.get(subject.name)?.push(await measure(subject, mode));
    }
  }
  const floor = median((samples.get('c') ?? []).map(({ cpuUs }) => cpuUs));
  for (const [name, all] of samples) {
    const cpu = all.map(({ cpuUs }) => cpuUs);
    const perSecond = median(all.map((sample) => sample.perSecond));
    process.stdout.write(
      `${mode.padEnd(5)}${name.padEnd(7)}µs/datagram median ${median(cpu).toFixed(2)} ` +
        `(min ${Math.min(...cpu).toFixed(2)}, max ${Math.max(...cpu).toFixed(2)}), ` +
        `ratio ${(median(cpu) / floor).toFixed(2)}, ${Math.round(perSecond)}/s\n`,
    );
  }
}
for (const subject of subjects) subject.process.kill();
