// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Debian's Knot DNS in a namespace: a real authoritative server, which signs its zones itself. */

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Namespace, ownPrefix } from './namespace.ts';
import { type RunningProcess, startProcess } from './process.ts';
import { waitFor } from './wait.ts';

const startTimeoutMs = 15_000;

export interface KnotZone {
  /** Without the final dot. */
  readonly name: string;
  /** A zone file; relative names are the zone's. */
  readonly text: string;
  /** Signed by ECDSA P-256 when it is loaded, denials by NSEC3 or NSEC; default not at all. */
  readonly signed?: 'nsec3' | 'nsec';
}

export interface KnotOptions {
  readonly addresses: readonly string[];
  /** Default 53. */
  readonly port?: number;
  readonly zones: readonly KnotZone[];
}

export class Knot implements AsyncDisposable {
  readonly #process: RunningProcess;
  readonly #directory: string;

  private constructor(process: RunningProcess, directory: string) {
    this.#process = process;
    this.#directory = directory;
  }

  /** Resolves when all zones are loaded and signed; an error has its log. */
  static async start(namespace: Namespace, options: KnotOptions): Promise<Knot> {
    const directory = await mkdtemp(join(tmpdir(), `${ownPrefix}0-knot-`));
    const file = join(directory, 'knot.conf');
    for (const name of ['run', 'db']) await mkdir(join(directory, name));
    await writeFile(file, knotConfig(options, directory));
    for (const { name, text } of options.zones) {
      await writeFile(join(directory, `${name}.zone`), text);
    }
    const process = startProcess(...namespace.enter('knotd', ['-c', file]));
    const knot = new Knot(process, directory);
    try {
      const started = (): boolean => knot.log().includes('server started');
      await waitFor(started, { what: 'knotd', timeoutMs: startTimeoutMs });
      // It starts without a zone that it cannot load or sign, too, and answers SERVFAIL there.
      if (/ (error|critical): /.test(knot.log())) throw new Error('knotd has logged an error');
      return knot;
    } catch (error) {
      await knot[Symbol.asyncDispose]();
      throw new Error(`knotd did not start: ${process.stderr()}`, { cause: error });
    }
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

/**
 * The text of knot.conf: every feature that a query can ask for is on (NSID, cookies, client subnet), and
 * UDP replies may be as long as Knot sends them.
 */
export function knotConfig(options: KnotOptions, directory: string): string {
  const { addresses, port = 53, zones } = options;
  const lines = [
    'server:',
    `    rundir: "${directory}/run"`,
    ...addresses.map((address) => `    listen: ${address}@${port}`),
    '    identity: "knot.test"',
    '    version: "knot"',
    '    nsid: "knot.test"',
    '    udp-max-payload: 4096',
    '    edns-client-subnet: on',
    '    udp-workers: 1',
    '    tcp-workers: 1',
    '    background-workers: 1',
    'log:',
    '  - target: stderr',
    '    any: info',
    'database:',
    `    storage: "${directory}/db"`,
    'mod-cookies:',
    '  - id: static',
    '    secret: 0x000102030405060708090a0b0c0d0e0f',
    'policy:',
    ...(['nsec3', 'nsec'] as const).flatMap((denial) => [
      `  - id: ${denial}`,
      '    algorithm: ecdsap256sha256',
      '    single-type-signing: on',
      `    nsec3: ${denial === 'nsec3' ? 'on' : 'off'}`,
    ]),
    'template:',
    '  - id: default',
    `    storage: "${directory}"`,
    '    file: "%s.zone"',
    '    global-module: mod-cookies/static',
    '    zonefile-sync: -1',
    '    journal-content: none',
    'zone:',
    ...zones.flatMap(({ name, signed }) => [
      `  - domain: ${name}`,
      ...(signed === undefined ? [] : ['    dnssec-signing: on', `    dnssec-policy: ${signed}`]),
    ]),
  ];
  return `${lines.join('\n')}\n`;
}
