// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Tandem on a test node: both processes as they run in production (built, each with the uid and the capabilities that
 * the chart grants and no way to more), a directory of objects, and the faults that tests make.
 */

import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readCounters } from '@tandem/datapath/counters';
import { Datapath, removePins } from '@tandem/datapath/datapath';
import { type MemberStatus, NodeGroup } from '@tandem/datapath/group';
import { cleanupLeftovers, ownPrefix } from '@tandem/testing/namespace';
import type { TestNode } from '@tandem/testing/netns';
import {
  isProcessAlive,
  type RunningProcess,
  runShort,
  startProcess,
  tryRun,
} from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { builtPackages } from './built.ts';
import { nodeName } from './objects.ts';
import { type Privileges, setprivArguments, shippedPrivileges } from './shipped-privileges.ts';

const bpffs = '/sys/fs/bpf';
const startTimeoutMs = 30_000;

const script = (path: string, packages: string = builtPackages): string => join(packages, path);

export type ProcessName = 'agent' | 'proxy';

export interface TandemNodeOptions {
  /** Extra options of both processes, by flag. */
  readonly options?: Readonly<Record<string, string | number>>;
  readonly agentOptions?: Readonly<Record<string, string | number>>;
  /** The `packages` directory of the build that `start` starts; default `builtPackages`. */
  readonly packages?: string;
  /** A file system of so many bytes for the run and state directories, so that it can be filled. */
  readonly diskBytes?: number;
  /** Added to the environment of a process when it starts. */
  readonly environment?: (
    name: ProcessName,
    tandem: TandemNode,
  ) => Readonly<Record<string, string>>;
}

export interface ProcessOptions {
  /** The `packages` directory of another build; default that of the node. */
  readonly packages?: string;
  /** Beside those of the node, by flag. */
  readonly flags?: Readonly<Record<string, string | number>>;
}

let nextNode = 0;
let hasCleaned = false;

export class TandemNode implements AsyncDisposable {
  readonly node: TestNode;
  readonly pinRoot: string;
  readonly directory: string;
  readonly policyDirectory: string;
  readonly runDirectory: string;
  /** Holds the run and state directories; a mount when `diskBytes` is given. */
  readonly disk: string;
  readonly #options: TandemNodeOptions;
  readonly #processes = new Map<ProcessName, RunningProcess>();

  private constructor(node: TestNode, options: TandemNodeOptions) {
    this.node = node;
    this.#options = options;
    this.pinRoot = join(bpffs, `${ownPrefix}${nextNode++}`);
    this.directory = mkdtempSync(join(tmpdir(), `${ownPrefix}0-tandem-`));
    // The proxy's uid must get through to its own directories below.
    chmodSync(this.directory, 0o755);
    this.policyDirectory = join(this.directory, 'objects');
    this.disk = join(this.directory, 'disk');
    this.runDirectory = join(this.disk, 'run');
    mkdirSync(this.policyDirectory);
    mkdirSync(this.disk);
  }

  /** Prepares; starts nothing yet. */
  static async create(node: TestNode, options: TandemNodeOptions = {}): Promise<TandemNode> {
    if (!hasCleaned) {
      hasCleaned = true;
      await cleanupLeftovers();
      removeLeftoverPins();
    }
    const tandem = new TandemNode(node, options);
    node.own(tandem);
    if (options.diskBytes !== undefined) {
      const mountOptions = `size=${options.diskBytes},mode=755`;
      await runShort('mount', ['-t', 'tmpfs', '-o', mountOptions, 'tandem-test', tandem.disk]);
    }
    return tandem;
  }

  /** Writes a file of objects; the agent sees it appear whole. */
  write(file: string, objects: readonly object[] | string): void {
    const text =
      typeof objects === 'string'
        ? objects
        : objects.map((object) => JSON.stringify(object)).join('\n---\n');
    writeFileSync(join(this.policyDirectory, file), text);
  }

  remove(file: string): void {
    rmSync(join(this.policyDirectory, file));
  }

  /** Starts both and waits until both serve the current policy. */
  async start(): Promise<void> {
    await this.startProcess('agent');
    await this.startProcess('proxy');
    await this.waitForMembers(['agent', 'proxy']);
  }

  async startProcess(name: ProcessName, options: ProcessOptions = {}): Promise<RunningProcess> {
    if (this.isAlive(name)) throw new Error(`${name} runs already`);
    const started = await this.startBeside(name, options);
    this.#processes.set(name, started);
    return started;
  }

  /** Starts another process of a kind, which the node's own methods do not know. */
  async startBeside(name: ProcessName, options: ProcessOptions = {}): Promise<RunningProcess> {
    const { packages } = { ...this.#options, ...options };
    const program = script(
      name === 'agent' ? 'agent/bin/tandem-agent' : 'dns-proxy/bin/tandem-dns-proxy',
      packages,
    );
    const privileges = name === 'agent' ? shippedPrivileges.agent : await proxyPrivileges();
    const args = [...setprivArguments(privileges), program, ...this.#flags(name, options.flags)];
    return startProcess(...this.node.node.enter('setpriv', args), {
      env: {
        ...ownEnvironment(),
        TANDEM_NODE: process.execPath,
        ...this.#options.environment?.(name, this),
      },
    });
  }

  /** A process that `startBeside` started is the node's from now on. */
  adopt(name: ProcessName, running: RunningProcess): void {
    if (this.isAlive(name)) throw new Error(`${name} runs already`);
    this.#processes.set(name, running);
  }

  /** The running process; throws when there is none. */
  process(name: ProcessName): RunningProcess {
    const found = this.#processes.get(name);
    if (found === undefined) throw new Error(`${name} was not started`);
    return found;
  }

  isAlive(name: ProcessName): boolean {
    const found = this.#processes.get(name);
    return found !== undefined && found.child.exitCode === null && found.child.signalCode === null;
  }

  /** Sends a signal; resolves at once. */
  signal(name: ProcessName, signal: NodeJS.Signals): void {
    process.kill(this.process(name).pid, signal);
  }

  /** SIGKILL, and waits until it is gone. */
  async kill(name: ProcessName): Promise<void> {
    this.signal(name, 'SIGKILL');
    await this.process(name).exited;
  }

  /** Where the processes leave files, unless options say otherwise. */
  get stateDirectory(): string {
    return join(this.disk, 'state');
  }

  /** Last log lines of both processes, for errors. */
  logs(): string {
    return [...this.#processes]
      .map(([name, running]) => {
        const { exitCode, signalCode } = running.child;
        const end = signalCode ?? (exitCode === null ? 'runs' : `exit code ${exitCode}`);
        return `--- ${name}, pid ${running.pid}: ${end}\n${running.stderr().slice(-3000)}`;
      })
      .join('\n');
  }

  /**
   * Until they have started, and are in the group as the kernel's selector sees it: LIVE, and with the newest
   * revision (`mayLag`: with any).
   */
  async waitForMembers(
    names: readonly ProcessName[],
    timeoutMs: number = startTimeoutMs,
    { mayLag = false }: { readonly mayLag?: boolean } = {},
  ): Promise<void> {
    await waitFor(
      () => {
        for (const name of names) {
          if (!this.isAlive(name)) {
            throw new Error(`${name} ended: ${this.logs()}`);
          }
        }
        // A process serves before it is all there: tests mean one that is done with starting.
        if (!names.every((name) => this.#isRunning(name))) return false;
        const members = this.members();
        return names.every((name: ProcessName) => {
          const member = members.find(
            ({ role }) => role === (name === 'agent' ? 'agent' : 'dns-proxy'),
          );
          return (
            member?.state === 'live' &&
            // Not what its predecessor left: that looks live until its beat is old.
            member.pid === this.process(name).pid &&
            member.beatAgeMs < 1000 &&
            this.appliedRevision() > 0 &&
            member.revision >= (mayLag ? 1 : this.appliedRevision())
          );
        });
      },
      {
        what: `${names.join(' and ')} to serve`,
        timeoutMs,
        state: () => `${this.#memberStates()}\n${this.logs()}`,
      },
    );
  }

  #memberStates(): string {
    try {
      return `applied ${this.appliedRevision()}, ${JSON.stringify(this.members())}`;
    } catch (error) {
      return `no datapath: ${(error as Error).message}`;
    }
  }

  #isRunning(name: ProcessName): boolean {
    return / INFO +tandem-[a-z-]+: running$/m.test(this.process(name).stderr());
  }

  members(): MemberStatus[] {
    using datapath = Datapath.open(this.pinRoot);
    return new NodeGroup(datapath.map('group').mmap()).members(Number(process.hrtime.bigint()));
  }

  /** The revision that the datapath enforces; 0 before the first. */
  appliedRevision(): number {
    using datapath = Datapath.open(this.pinRoot);
    return new NodeGroup(datapath.map('group').mmap()).appliedRevision;
  }

  /** Waits until the policy written last is in force everywhere: a revision after `after`. */
  async waitForRevision(after: number): Promise<number> {
    return waitFor(
      () => {
        const revision = this.appliedRevision();
        return revision > after && this.members().every((member) => member.revision >= revision)
          ? revision
          : null;
      },
      { what: `a policy revision after ${after}`, timeoutMs: startTimeoutMs },
    );
  }

  /** How often the agent that runs said that it has applied policy; of pods alone it says so with `log-level` debug. */
  applications(): number {
    return this.process('agent').stderr().split('policy applied').length - 1;
  }

  /**
   * Waits until the agent has applied policy more often than `applications`: also where nothing of it is for DNS members, and
   * there is no new revision.
   */
  async waitForApplication(applications: number): Promise<void> {
    await waitFor(() => this.applications() > applications, {
      what: `policy to be applied after ${applications} times`,
      timeoutMs: startTimeoutMs,
    });
  }

  /** Kernel counters by lower-case name, summed over CPUs. */
  counters(): Record<string, number> {
    using datapath = Datapath.open(this.pinRoot);
    return readCounters(datapath);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const alive = [...this.#processes.values()].filter(({ pid }) => isProcessAlive(pid));
    for (const [index, running] of alive.entries()) {
      process.kill(running.pid, 'SIGCONT');
      // The last one would wait for another to serve, as long as it may.
      if (index === alive.length - 1) process.kill(running.pid, 'SIGKILL');
      await running.stop();
    }
    removePins(this.pinRoot);
    if (this.#options.diskBytes !== undefined) await tryRun('umount', [this.disk]);
    rmSync(this.directory, { recursive: true, force: true });
  }

  #flags(name: ProcessName, more: ProcessOptions['flags'] = {}): string[] {
    const options: Record<string, string | number> = {
      'bpffs-dir': this.pinRoot,
      'run-dir': this.runDirectory,
      'state-dir': this.stateDirectory,
      'log-format': 'text',
      'drain-timeout': '2s',
      // Tests wait for names to expire, by connecting again and again.
      'fqdn-grace-seconds': 0,
      'fqdn-live-seconds': 0,
      // Not those of the machine that runs the test.
      'search-suffixes': '.',
      ...this.#options.options,
    };
    if (name === 'agent') {
      Object.assign(options, {
        source: `directory:${this.policyDirectory}`,
        'node-name': nodeName,
        ...this.#options.agentOptions,
      });
    }
    return Object.entries({ ...options, ...more }).map(([flag, value]) => `--${flag}=${value}`);
  }
}

/** Without what speeds up tests alone: a compile cache changes memory and the time of a start. */
function ownEnvironment(): NodeJS.ProcessEnv {
  const { NODE_COMPILE_CACHE: _, ...environment } = process.env;
  return environment;
}

/** Pins of test processes that no longer run. */
function removeLeftoverPins(): void {
  for (const name of readdirSync(bpffs)) {
    const pid = Number.parseInt(/^td([0-9a-z]+)-\d+$/.exec(name)?.[1] ?? '', 36);
    if (Number.isInteger(pid) && pid !== process.pid && !isProcessAlive(pid)) {
      removePins(join(bpffs, name));
    }
  }
}

/** As shipped; also the right to read a checkout that only root may enter. */
async function proxyPrivileges(): Promise<Privileges> {
  const shipped = shippedPrivileges['dns-proxy'];
  const reading = await tryRun('setpriv', [
    ...[`--reuid=${shipped.uid}`, '--clear-groups'],
    ...['test', '-r', script('dns-proxy/dist/main.js')],
  ]);
  if (reading.status === 0) return shipped;
  return { ...shipped, capabilities: [...shipped.capabilities, 'DAC_READ_SEARCH'] };
}
