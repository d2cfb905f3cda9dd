// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A member of the DNS group as the main thread of a process sees it: the DNS worker, the thread that
 * compiles policy for it (policy/compiler-thread.ts), and the ring of events that comes back. The agent and the standalone proxy
 * both hold one.
 */

import type { GroupIndex } from '@tandem/core/ids';
import { readPinnedMember } from '@tandem/datapath/group-settings';
import type { PolicySnapshot } from '@tandem/proto/gen/messages';
import {
  createSharedRing,
  SharedRingReader,
  type SharedRingVisitor,
} from '@tandem/runtime/shared-ring';
import { systemClock } from '@tandem/runtime/system-clock';
import type { TandemError } from '@tandem/runtime/tandem-error';
import { createSharedCounters } from './counters.ts';
import { DnsWorkerThread } from './dns-worker-thread.ts';
import { IndexLock, type IndexLockOptions, type TakeOptions } from './index-lock/index-lock.ts';
import { eventDrainRecordsMax, eventRingBytes, hungWorkerMs } from './limits.ts';
import type { MemberPhase } from './member-phase.ts';
import type { TakeoverEvent } from './peer/takeover.ts';
import type { CompletedPatterns } from './policy/build-image.ts';
import { CompilerThread } from './policy/compiler-thread.ts';
import { PolicyTables } from './policy/tables.ts';
import type { TablesImage } from './policy/tables-image.ts';
import type { FromWorker, WorkerOptions } from './worker-messages.ts';

export interface DnsMemberOptions {
  readonly worker: Omit<WorkerOptions, 'counters' | 'ring'>;
  readonly indexLock: Omit<IndexLockOptions, 'pinRoot' | 'member'>;
  /** Whether `tables` are kept on this thread too; default no, they are megabytes. */
  readonly keepsTables?: boolean;
  /** One record of the ring (`decodeDnsEvent`), valid during the call. */
  readonly onEvent: (bytes: Uint8Array, offset: number, length: number) => void;
  /** How far the process is. */
  readonly phase: MemberPhase;
  /** For the log: why no listener could be opened, each time that it is another reason; empty: they are open. */
  readonly onListeners: (problem: string) => void;
  /** For the log: another member was linked, lost, hung or came back. */
  readonly onPeer: (event: TakeoverEvent, member: GroupIndex) => void;
  /** The worker died: a bug, or an error of the system that it cannot go on with. */
  readonly onFailure: (error: TandemError) => void;
  /** Drain bound; past it the worker is stopped with queries in flight. */
  readonly drainTimeoutMs: number;
}

export interface ReadAhead {
  /** After `standBy`: the condition for which the process waits until it is ready, but not until it may take over. Never rejects. */
  readonly readAhead?: () => Promise<void>;
}

interface Waiting {
  resolve(): void;
  reject(error: TandemError): void;
}

export class DnsMember {
  readonly counters: Float64Array = createSharedCounters();
  readonly #options: DnsMemberOptions;
  readonly #ring: SharedArrayBuffer = createSharedRing(eventRingBytes);
  readonly #reader = new SharedRingReader(this.#ring);
  readonly #deliver: SharedRingVisitor = (_kind, bytes, offset, length) => {
    this.#options.onEvent(bytes, offset, length);
  };
  readonly #installs = new Map<number, Waiting[]>();
  readonly #indexLock: IndexLock;
  readonly #compiler = new CompilerThread(
    new URL(workerFile('policy/compile-worker'), import.meta.url),
    (error) => this.#fail(error),
  );
  readonly #thread: DnsWorkerThread;
  #isStopping = false;
  #revision = 0;
  #listenersProblem = '';
  #image: TablesImage | null = null;
  #tables: PolicyTables | null = null;

  constructor(options: DnsMemberOptions) {
    this.#options = options;
    const { pinRoot, member } = options.worker;
    this.#indexLock = new IndexLock({ ...options.indexLock, pinRoot, member });
    this.#thread = new DnsWorkerThread({
      file: new URL(workerFile('worker'), import.meta.url),
      worker: { ...options.worker, counters: this.counters, ring: this.#ring },
      onMessage: (message) => this.#onMessage(message),
      onFailure: (error) => this.#fail(error),
    });
  }

  /** The revision that the worker serves; 0 before the first. */
  get revision(): number {
    return this.#revision;
  }

  /** Reason for which this member cannot open its listeners, which it tries again. Empty: they are open. */
  get listenersProblem(): string {
    return this.#listenersProblem;
  }

  /** Tables of the worker, for this thread; null before the first policy or without `keepsTables`. */
  get tables(): PolicyTables | null {
    if (this.#tables === null && this.#image !== null) this.#tables = new PolicyTables(this.#image);
    return this.#tables;
  }

  /**
   * Waits for the index, which this process then has until it ends: two processes of one kind are safe because only
   * death releases it. While it waits it stands by: its threads are loaded, and `standBy` and `readAhead` are called.
   */
  async acquire(
    signal: AbortSignal,
    { readAhead, standBy, ...options }: TakeOptions & ReadAhead = {},
  ): Promise<void> {
    const { phase } = this.#options;
    await this.#indexLock.take(signal, {
      ...options,
      standBy: async () => {
        this.#thread.load();
        this.prepareInstall();
        await standBy?.();
        void (async () => {
          await readAhead?.();
          phase.standsBy();
        })();
      },
    });
    if (this.#indexLock.isTaken) phase.holdsIndex();
  }

  /**
   * Starts the worker; resolves when its listeners are open or are tried again (`listenersProblem`). It
   * joins the group with its first policy, which may be installed meanwhile.
   */
  async start(): Promise<void> {
    if (!this.#indexLock.isTaken) throw new TypeError('start before the index is taken');
    this.#indexLock.arm();
    this.#options.phase.livesWithout(() => this.#hang());
    await this.#thread.begin();
  }

  /** Reason for which the worker counts as hung: its heartbeat is older than that of any running thread. Empty: it runs. */
  #hang(): string {
    const { pinRoot, member } = this.#options.worker;
    const found = this.#revision === 0 ? null : readPinnedMember(pinRoot, member);
    if (found === null || (found.state !== 'live' && found.state !== 'drain')) return '';
    const ageMs = systemClock.monotonicMs() - found.beatNs / 1e6;
    return ageMs > hungWorkerMs ? `no heartbeat of the DNS worker for ${Math.round(ageMs)} ms` : '';
  }

  /** Passes the worker's events to `onEvent`; until then they are kept, up to a bound. */
  deliverEvents(): void {
    this.#reader.drain(this.#deliver, eventDrainRecordsMax);
  }

  /** Begins to load the thread that compiles, before it is needed. */
  prepareInstall(): void {
    this.#compiler.prepare();
  }

  /**
   * Resolves when the worker serves the snapshot, which is compiled for it if it brings no matcher.
   * Rejects when it can't be used.
   */
  async install(snapshot: Uint8Array): Promise<void> {
    const image = await this.#compiler.image(snapshot);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#installImage(image, { resolve, reject });
    await promise;
  }

  /** The matcher of a snapshot's patterns, so that a receiver of both need not compile them. */
  completePatterns(patterns: PolicySnapshot['patterns']): Promise<CompletedPatterns> {
    return this.#compiler.complete(patterns);
  }

  /**
   * Waits until another member serves, leaves the group, answers queries in flight, ends the worker; all
   * within the drain bound. The index stays this process's.
   */
  async stop(): Promise<void> {
    if (this.#isStopping) return;
    this.#isStopping = true;
    this.#options.phase.stops();
    if (!this.#thread.isLoaded) return;
    await this.#thread.stop(this.#options.drainTimeoutMs);
    await this.#compiler.stop();
    this.deliverEvents();
  }

  #onMessage(message: FromWorker): void {
    if (message.kind === 'listeners') this.#onListeners(message.problem);
    else if (message.kind === 'peer') this.#options.onPeer(message.event, message.member);
    else if (message.kind === 'installed') {
      this.#revision = message.revision;
      for (const waiting of this.#installs.get(message.revision) ?? []) waiting.resolve();
      this.#installs.delete(message.revision);
    }
  }

  #onListeners(problem: string): void {
    if (problem !== this.#listenersProblem) this.#options.onListeners(problem);
    this.#listenersProblem = problem;
  }

  #installImage(image: TablesImage, waiting: Waiting): void {
    const installs = this.#installs.get(image.revision) ?? [];
    installs.push(waiting);
    this.#installs.set(image.revision, installs);
    this.#thread.send({ kind: 'policy', image });
    if (this.#options.keepsTables !== true) return;
    this.#image = image;
    this.#tables = null;
  }

  #fail(error: TandemError): void {
    if (this.#isStopping) return;
    this.#compiler.fail(error);
    this.#options.onFailure(error);
  }
}

/** Worker files lie beside this one, as .ts in the source and .js in a build. */
function workerFile(name: string): string {
  return `./${name}${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`;
}
