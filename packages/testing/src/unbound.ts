// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Debian's unbound in a namespace, with local zones: a real resolver for demo, tests and benchmarks. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Namespace, ownPrefix } from './namespace.ts';
import { type RunningProcess, startProcess } from './process.ts';
import { waitFor } from './wait.ts';

const startTimeoutMs = 15_000;

export interface UnboundOptions {
  /** Default 53. */
  readonly port?: number;
  /** Default: all, and replies come from the address that was asked. */
  readonly addresses?: readonly string[];
  /** Zones by name. "redirect" answers for every name below with the zone's own data. */
  readonly zones?: Readonly<Record<string, 'static' | 'transparent' | 'redirect' | 'refuse'>>;
  /** Records as in a zone file: "www.example.test. 60 IN A 203.0.113.10". */
  readonly data?: readonly string[];
  /** A resolver for everything else; without it other names are refused or fail. */
  readonly forwardTo?: { readonly address: string; readonly port: number };
  /** Default 1. */
  readonly threads?: number;
  /** More lines of the server clause. */
  readonly extra?: readonly string[];
}

export class Unbound implements AsyncDisposable {
  readonly #process: RunningProcess;
  readonly #directory: string;

  private constructor(process: RunningProcess, directory: string) {
    this.#process = process;
    this.#directory = directory;
  }

  /** Resolves when it serves; an error has its log. */
  static async start(namespace: Namespace, options: UnboundOptions): Promise<Unbound> {
    const directory = await mkdtemp(join(tmpdir(), `${ownPrefix}unbound-`));
    const file = join(directory, 'unbound.conf');
    await writeFile(file, unboundConfig(options, directory));
    const process = startProcess(...namespace.enter('unbound', ['-d', '-d', '-p', '-c', file]));
    const unbound = new Unbound(process, directory);
    try {
      await waitFor(() => hasStarted(process), { what: 'unbound', timeoutMs: startTimeoutMs });
      return unbound;
    } catch (error) {
      await unbound[Symbol.asyncDispose]();
      throw new Error(`unbound did not start: ${process.stderr()}`, { cause: error });
    }
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Its log so far. */
  log(): string {
    return this.#process.stderr();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stop();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** The text of unbound.conf. */
export function unboundConfig(options: UnboundOptions, directory: string): string {
  const { port = 53, threads = 1, extra = [], data = [], forwardTo } = options;
  const automatic = options.addresses === undefined;
  const lines = [
    'server:',
    `  directory: "${directory}"`,
    '  chroot: ""',
    '  username: ""',
    '  use-syslog: no',
    '  logfile: ""',
    '  verbosity: 1',
    `  port: ${port}`,
    `  num-threads: ${threads}`,
    `  interface-automatic: ${automatic ? 'yes' : 'no'}`,
    ...(options.addresses ?? ['0.0.0.0', '::0']).map((address) => `  interface: ${address}`),
    '  access-control: 0.0.0.0/0 allow',
    '  access-control: ::0/0 allow',
    '  do-not-query-localhost: no',
    '  module-config: "iterator"',
    ...Object.entries(options.zones ?? {}).map(([zone, type]) => `  local-zone: "${zone}" ${type}`),
    ...data.map((record) => `  local-data: '${record}'`),
    ...extra.map((line) => `  ${line}`),
    'remote-control:',
    '  control-enable: no',
  ];
  if (forwardTo !== undefined) {
    const target = `${forwardTo.address}@${forwardTo.port}`;
    lines.push('forward-zone:', '  name: "."', `  forward-addr: ${target}`);
  }
  return `${lines.join('\n')}\n`;
}

function hasStarted(process: RunningProcess): boolean {
  return process.stderr().includes('start of service');
}
