// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// What the tests stand on: compiled BPF objects, a directory in a bpffs, network namespaces, and
// children that run a script of test/children. Everything is named after the test's process id, so
// tests run beside each other and the leftovers of a dead one are removed by the next.

import { spawnSync } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const packageDirectory = fileURLToPath(new URL('..', import.meta.url));
const prefix = 'tandem-loader-test-';
const bpffs = '/sys/fs/bpf';
const childSecondsMax = 60;

export interface CommandResult {
  readonly code: number | null;
  readonly signal: string | null;
  readonly output: string;
}

export function run(command: string, ...parameters: string[]): CommandResult {
  const result = spawnSync(command, parameters, {
    cwd: packageDirectory,
    encoding: 'utf8',
    timeout: childSecondsMax * 1000,
    killSignal: 'SIGKILL',
    maxBuffer: 16 * 1024 * 1024,
  });
  if (result.error !== undefined) throw result.error;
  return { code: result.status, signal: result.signal, output: result.stdout + result.stderr };
}

function mustRun(command: string, ...parameters: string[]): void {
  const { code, output } = run(command, ...parameters);
  if (code !== 0) throw new Error(`${command} ${parameters.join(' ')}: ${output}`);
}

let areObjectsFresh = false;

/** Path of a test object, compiled when it is not fresh. */
export function objectPath(name: 'loader' | 'refused'): string {
  if (!areObjectsFresh) mustRun('make', '-s', 'all', 'test-objects');
  areObjectsFresh = true;
  return `${packageDirectory}build/test/${name}.bpf.o`;
}

/** Runs test/children/`name`.ts in a process of its own, in a network namespace when one is given. */
export function runChild(
  name: string,
  parameters: readonly string[] = [],
  options: { readonly namespace?: string; readonly nodeFlags?: readonly string[] } = {},
): CommandResult {
  const node = [
    process.execPath,
    '--conditions=@tandem/source',
    '--disable-warning=ExperimentalWarning',
    ...(options.nodeFlags ?? []),
    `test/children/${name}.ts`,
    ...parameters,
  ];
  if (options.namespace === undefined) return run(node[0] ?? '', ...node.slice(1));
  return run('nsenter', `--net=/run/netns/${options.namespace}`, ...node);
}

function isOfDeadProcess(name: string): boolean {
  const pid = Number.parseInt(name.slice(prefix.length), 10);
  return name.startsWith(prefix) && Number.isInteger(pid) && !existsSync(`/proc/${pid}`);
}

function removeLeftovers(directory: string, remove: (name: string) => void): void {
  if (!existsSync(directory)) return;
  for (const name of readdirSync(directory)) if (isOfDeadProcess(name)) remove(name);
}

let sequence = 0;

function uniqueName(): string {
  sequence += 1;
  return `${prefix}${process.pid}-${sequence}`;
}

/** A fresh directory in a bpffs; mounts one where there is none. */
export class PinDirectory implements Disposable {
  readonly path: string;

  constructor() {
    const isMounted = readFileSync('/proc/self/mounts', 'utf8').includes(` ${bpffs} bpf `);
    if (!isMounted) mustRun('mount', '-t', 'bpf', 'bpf', bpffs);
    removeLeftovers(bpffs, (name) => rmSync(`${bpffs}/${name}`, { recursive: true, force: true }));
    this.path = `${bpffs}/${uniqueName()}`;
    mkdirSync(this.path);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** A network namespace with its loopback up and one veth pair, veth0 and veth1. */
export class NetworkNamespace implements Disposable {
  readonly name: string;

  constructor() {
    removeLeftovers('/run/netns', (name) => mustRun('ip', 'netns', 'delete', name));
    this.name = uniqueName();
    mustRun('ip', 'netns', 'add', this.name);
    mustRun('ip', '-n', this.name, 'link', 'set', 'lo', 'up');
    mustRun('ip', '-n', this.name, 'link', 'add', 'veth0', 'type', 'veth', 'peer', 'name', 'veth1');
  }

  [Symbol.dispose](): void {
    mustRun('ip', 'netns', 'delete', this.name);
  }
}

/** The mount point of cgroup v2: alone or beside v1 hierarchies. */
export function cgroup2Path(): string {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  const path = mounts.map((line) => line.split(' ')).find((fields) => fields[2] === 'cgroup2')?.[1];
  if (path === undefined) throw new Error('no cgroup2 is mounted');
  return path;
}

/** A cgroup of its own; the process that made it may move in, and must move out again. */
export class Cgroup implements Disposable {
  readonly path: string;

  constructor() {
    const root = cgroup2Path();
    removeLeftovers(root, (name) => mustRun('rmdir', `${root}/${name}`));
    this.path = `${root}/${uniqueName()}`;
    mkdirSync(this.path);
  }

  [Symbol.dispose](): void {
    mustRun('rmdir', this.path);
  }
}

/** Numbers as bytes, in host order. */
export function u32(...numbers: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(numbers).buffer);
}

export function u64(...numbers: bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(numbers).buffer);
}

export function readU32(bytes: Uint8Array, index = 0): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(4 * index, true);
}

/** Open fds of this process. */
export function countFds(): number {
  return readdirSync('/proc/self/fd').length;
}

function socketFds(): Set<number> {
  const fds = new Set<number>();
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${name}`).startsWith('socket:')) fds.add(Number(name));
    } catch {
      // The fd of the directory listing itself is gone by now.
    }
  }
  return fds;
}

export interface BoundSocket {
  readonly socket: Socket;
  readonly fd: number;
  readonly port: number;
}

/** A UDP socket of a reuseport group on 127.0.0.1; its fd by comparison, as Node does not tell it. */
export async function bindReuseport(port = 0): Promise<BoundSocket> {
  const before = socketFds();
  const socket = createSocket({ type: 'udp4', reusePort: true });
  socket.bind(port, '127.0.0.1');
  await once(socket, 'listening');
  const fd = [...socketFds()].find((candidate) => !before.has(candidate));
  if (fd === undefined) throw new Error('the new socket has no fd');
  return { socket, fd, port: socket.address().port };
}
