// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The resolver libraries and tools that pods use, each run inside a pod with a resolv.conf of its own. Those that
 * must be compiled are, from `e2e/resolvers`; those whose compiler is not installed are named as missing.
 */

import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Namespace, ownPrefix } from '@tandem/testing/namespace';
import { run, tryRun } from '@tandem/testing/process';

export interface ResolverClient {
  readonly name: string;
  /** The words before the name that is looked up. */
  readonly command: readonly string[];
  /** Options of its resolv.conf beside ndots:5. */
  readonly options?: string;
  /** It prints how long the lookup took; else the time of the whole process counts. */
  readonly printsTime: boolean;
}

export interface Lookup {
  readonly addresses: readonly string[];
  readonly milliseconds: number;
  readonly output: string;
}

export interface ResolvConf {
  readonly nameservers: readonly string[];
  readonly search: readonly string[];
}

const sources = fileURLToPath(new URL('../resolvers', import.meta.url));
const source = (name: string): string => join(sources, name);
const lookupTimeoutMs = 60_000;
const compileTimeoutMs = 120_000;
/** Debian's interpreter: the packages are installed for it, whatever else is in PATH. */
const python = '/usr/bin/python3';

export class ResolverClients implements AsyncDisposable {
  readonly #directory: string;
  #nextFile = 0;
  readonly clients: readonly ResolverClient[];
  /** Names of those that cannot be built here. */
  readonly missing: readonly string[];

  private constructor(directory: string, clients: readonly ResolverClient[], missing: string[]) {
    this.#directory = directory;
    this.clients = clients;
    this.missing = missing;
  }

  /** After the node is made: the first namespace of a process removes what seems to be left by an earlier one. */
  static async build(): Promise<ResolverClients> {
    const directory = await mkdtemp(join(tmpdir(), `${ownPrefix}0-resolvers-`));
    try {
      const [go, java] = await Promise.all([compileGo(directory), compileJava(directory)]);
      const clients = [...(await compileC(directory)), ...installed, ...go, ...java];
      const missing = [
        ...(go.length === 0 ? [goName] : []),
        ...(java.length === 0 ? [javaName] : []),
      ];
      return new ResolverClients(directory, clients, missing);
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** Looks up a name in a network namespace whose /etc/resolv.conf is `conf`, and names come from DNS. */
  async lookup(
    namespace: Namespace,
    client: ResolverClient,
    conf: ResolvConf,
    name: string,
  ): Promise<Lookup> {
    const file = join(this.#directory, `${this.#nextFile++}`);
    await writeFile(`${file}.resolv`, resolvConfText(conf, client.options));
    await writeFile(`${file}.nsswitch`, 'hosts: files dns\n');
    const script = `mount --bind ${file}.resolv /etc/resolv.conf &&
      mount --bind ${file}.nsswitch /etc/nsswitch.conf && exec "$@"`;
    const inside = ['-m', 'sh', '-c', script, 'sh', ...client.command, name];
    const before = performance.now();
    const { stdout, stderr } = await tryRun(...namespace.enter('unshare', inside), {
      timeoutMs: lookupTimeoutMs,
    });
    const elapsed = performance.now() - before;
    const output = `${stdout}${stderr}`.trim();
    const printed = Number.parseInt(stdout, 10);
    if (client.printsTime && Number.isNaN(printed)) throw new Error(`${client.name}: ${output}`);
    return {
      addresses: stdout.match(/\b198\.(18|19)(\.\d+){2}\b/g) ?? [],
      milliseconds: client.printsTime ? printed : elapsed,
      output,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }
}

function resolvConfText({ nameservers, search }: ResolvConf, options = ''): string {
  return [
    `search ${search.join(' ')}`,
    ...nameservers.map((address) => `nameserver ${address}`),
    `options ndots:5 ${options}`.trim(),
    '',
  ].join('\n');
}

const goName = 'Go';
const javaName = 'Java';

/** Programs and libraries of packages that `./run test` installs. */
const installed: readonly ResolverClient[] = [
  { name: 'dnspython', command: [python, source('dnspython_lookup.py')], printsTime: true },
  {
    name: 'Node.js lookup',
    command: [process.execPath, source('node-lookup.ts'), 'lookup'],
    printsTime: true,
  },
  {
    name: 'Node.js resolve',
    command: [process.execPath, source('node-lookup.ts'), 'resolve4'],
    printsTime: true,
  },
  { name: 'dig', command: ['dig', '+search'], printsTime: false },
  { name: 'host', command: ['host'], printsTime: false },
];

async function compileC(directory: string): Promise<readonly ResolverClient[]> {
  const compile = async (
    compiler: string,
    name: string,
    file: string,
    ...more: readonly string[]
  ): Promise<string> => {
    const program = join(directory, name);
    const flags = ['-O2', '-Wall', '-Wextra', '-Werror', '-D_GNU_SOURCE', '-o', program];
    await run(compiler, [...flags, source(file), ...more], { timeoutMs: compileTimeoutMs });
    return program;
  };
  const [glibc, musl, cares] = await Promise.all([
    compile('cc', 'glibc', 'getaddrinfo.c'),
    compile('musl-gcc', 'musl', 'getaddrinfo.c', '-static'),
    // Later releases name other functions for what all of them have.
    compile('cc', 'cares', 'cares.c', '-Wno-deprecated-declarations', '-lcares'),
  ]);
  const ofGlibc = { command: [glibc], printsTime: true } as const;
  return [
    { name: 'glibc', ...ofGlibc },
    { name: 'glibc rotate', options: 'rotate', ...ofGlibc },
    { name: 'glibc single-request', options: 'single-request', ...ofGlibc },
    { name: 'glibc use-vc', options: 'use-vc', ...ofGlibc },
    { name: 'glibc edns0', options: 'edns0', ...ofGlibc },
    { name: 'musl', command: [musl], printsTime: true },
    { name: 'c-ares', command: [cares], printsTime: true },
  ];
}

async function compileGo(directory: string): Promise<readonly ResolverClient[]> {
  if (!isInPath('go')) return [];
  const program = join(directory, 'pure');
  // The standard library alone: nothing is fetched.
  const offline = { GO111MODULE: 'off', GOPROXY: 'off', GOTOOLCHAIN: 'local', GOFLAGS: '' };
  const env = { ...process.env, ...offline, CGO_ENABLED: '0' };
  const args = ['build', '-o', program, source('pure.go')];
  await run('go', args, { env, timeoutMs: compileTimeoutMs });
  return [{ name: goName, command: [program], printsTime: true }];
}

async function compileJava(directory: string): Promise<readonly ResolverClient[]> {
  if (!isInPath('javac')) return [];
  const args = ['-d', directory, source('Lookup.java')];
  await run('javac', args, { timeoutMs: compileTimeoutMs });
  return [{ name: javaName, command: ['java', '-cp', directory, 'Lookup'], printsTime: true }];
}

function isInPath(program: string): boolean {
  const path = process.env['PATH'] ?? '';
  return path.split(':').some((directory) => existsSync(join(directory, program)));
}
