// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Run by arguments.fuzz.test.ts in a network namespace and a directory of its own: calls every
 * function of the addon with wrong arguments, many times, by a seed; some are right, so that
 * there are loops, sockets and fds to confuse. A crash ends the process; all
 * that may come out of a call is a value or an Error.
 *
 *   node junk-calls.ts SEED CALLS
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { native } from '../src/native.ts';

const [seed, calls] = process.argv.slice(2).map(Number) as [number, number];

/** mulberry32. */
let state = seed;
function random(): number {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}
function pick<T>(values: readonly T[]): T {
  return values[Math.floor(random() * values.length)] as T;
}

const detached = new Uint8Array(64 * 512);
structuredClone(detached.buffer, { transfer: [detached.buffer] });
const resizable = new ArrayBuffer(64 * 512, { maxByteLength: 128 * 512 });
const shrunk = new Uint8Array(resizable);
const throwing = (): never => {
  throw new Error('junk');
};
const control = (slots: number): Uint8Array =>
  new Uint8Array(new SharedArrayBuffer(64 + slots * 5 * 64));

const values: readonly unknown[] = [
  undefined,
  null,
  true,
  false,
  Number.NaN,
  Infinity,
  -1,
  -0,
  0.5,
  1e300,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  1n,
  '',
  'x',
  'a\0b',
  'y'.repeat(107),
  'y'.repeat(300),
  Symbol('s'),
  {},
  [],
  [1, 2],
  [-1],
  Array.from({ length: 17 }, () => 0),
  { length: 3 },
  new Proxy([], {}),
  throwing,
  () => {},
  new Uint8Array(0),
  new Uint8Array(16),
  new Uint8Array(17),
  new Int8Array(16),
  new Float64Array(2),
  new BigInt64Array(1),
  new Float32Array(2),
  new DataView(new ArrayBuffer(16)),
  new ArrayBuffer(16),
  new SharedArrayBuffer(16),
  new Uint8Array(new SharedArrayBuffer(65_536)),
  detached,
  shrunk,
  control(1),
  control(64),
  control(256),
  new Uint8Array(new SharedArrayBuffer(65_536), 1),
  new Uint8Array(64 * 512),
  new Proxy({}, {}),
];

/** Small integers hit open fds, ids and handles; addresses and buffers make calls succeed. */
function junk(): unknown {
  const dice = random();
  if (dice < 0.35) return Math.floor(random() * 80);
  if (dice < 0.45) return 4096 + Math.floor(random() * 4);
  if (dice < 0.5) return Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1);
  if (dice < 0.6) return () => {};
  return pick(values);
}

const loopback = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1);
const loops: number[] = [];
const fds: number[] = [];
const sockets: number[] = [];
const handles: number[] = [];
const netlinks: number[] = [];
const noop = (): void => {};
const path = (): string => pick(['a', 'b', 'c']);

/** A TCP connection of Node's own, and its listener. */
const tcpServer = createServer().listen(0, '127.0.0.1');
await once(tcpServer, 'listening');
const tcpClient = connect((tcpServer.address() as AddressInfo).port, '127.0.0.1');
await once(tcpClient, 'connect');
const fdOf = (socket: unknown): number => (socket as { _handle: { fd: number } })._handle.fd;

/** Right arguments of every function; each is then spoilt by chance. */
const templates: Readonly<Record<string, () => unknown[]>> = {
  createListener: () => [pick([0, 1]), pick([0, 1]), 0, 0, 0, 0, null, 65_536, 8, 1000],
  guardListener: () => [pick(fds), 0, 0],
  enlargeBuffers: () => [pick(fds), 65_536],
  armFence: () => [`pipe-${process.pid}`],
  createUpstreamTcp: () => [0, 5],
  createUpstreamUdp: () => [loopback, 9, null, null, 65_536, null],
  closeFd: () => [pick(fds)],
  releaseFd: () => [pick(fds)],
  duplicateFd: () => [pick(fds)],
  localPort: () => [pick(fds)],
  hasWriter: () => [pick(fds)],
  tryLockFd: () => [pick(fds), pick([0, 1])],
  loopCreate: () => {
    const slots = pick([1, 64, 256]);
    const callback = pick([noop, throwing]);
    return [new Uint8Array(512), control(slots), slots, callback, noop, pick([0, 1])];
  },
  loopAdd: () => [pick(loops), pick(fds), pick([0, 1, 2])],
  loopRemove: () => [pick(loops), pick(handles)],
  loopMemory: () => [pick(loops), pick(handles)],
  loopFlush: () => [pick(loops)],
  loopStats: () => [pick(loops)],
  loopClose: () => [pick(loops)],
  unixListen: () => [path(), 0o600, 4, pick([noop, throwing])],
  unixConnect: () => [path(), pick([noop, throwing])],
  unixAdopt: () => [pick(fds), noop],
  unixSend: () => [pick(sockets), new Uint8Array(9), random() < 0.5 ? [] : [pick(fds)]],
  unixClose: () => [pick(sockets)],
  // Reading only: no request is sent that would change something.
  netlinkOpen: () => [pick([0, 4, 12]), 65_536, pick([noop, throwing])],
  netlinkJoin: () => [pick(netlinks), pick([1, 3, 7])],
  netlinkSend: () => [pick(netlinks), new Uint8Array(20)],
  netlinkReceive: () => [pick(netlinks)],
  netlinkClose: () => [pick(netlinks)],
  tcpListen: () => [pick([fdOf(tcpServer), pick(fds)]), pick([noop, throwing])],
  tcpAddresses: () => [pick([fdOf(tcpClient), pick(fds)]), new Uint8Array(32)],
  tcpResetOnClose: () => [pick([fdOf(tcpClient), pick(fds)])],
  peerCredentials: () => [pick(fds)],
  tickStart: () => [pick([1, 1000]), pick([noop, throwing])],
  tickStop: () => [],
  clockInto: () => [new Float64Array(2)],
  trimHeap: () => [],
  // Of a program that is not there, so that this process stays what it is.
  executeAs: () => [65_532, 65_532, 0, 0, '/absent/program', ['a'], ['A=b']],
};
const results: Readonly<Record<string, number[]>> = {
  createListener: fds,
  createUpstreamTcp: fds,
  createUpstreamUdp: fds,
  duplicateFd: fds,
  loopCreate: loops,
  loopAdd: handles,
  unixListen: sockets,
  netlinkOpen: netlinks,
  tcpListen: sockets,
  unixConnect: sockets,
  unixAdopt: sockets,
};
const functions = native as unknown as Readonly<Record<string, (...args: unknown[]) => unknown>>;
const names = Object.keys(native).filter((name) => name !== 'layout');
assert.deepEqual(names.toSorted(), Object.keys(templates).toSorted());
const succeeded = new Set<string>();

process.on('uncaughtException', (error: Error) => {
  if (error.message !== 'junk' && !/detached/.test(error.message)) throw error;
});
resizable.resize(16);

function callOne(): void {
  const name = pick(names);
  const args = templates[name]?.() ?? [];
  for (let i = 0; i < args.length; i++) if (random() < 0.15) args[i] = junk();
  if (random() < 0.05) args.length = Math.floor(random() * 12);
  try {
    const result = functions[name]?.(...args);
    succeeded.add(name);
    if (typeof result === 'number') results[name]?.push(result);
  } catch (error) {
    assert.ok(error instanceof Error);
  }
}

let done = 0;
function some(): void {
  for (let i = 0; i < 200 && done < calls; i++, done++) callOne();
  if (done < calls) {
    setImmediate(some);
    return;
  }
  const never = names.filter((name) => !succeeded.has(name));
  process.stdout.write(`${done} calls; never successful: ${never.join(' ')}\n`, () =>
    process.exit(0),
  );
}
some();
