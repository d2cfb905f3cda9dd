// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * State for the next start of either process: the policy snapshot, on disk and as a copy in the run directory, and the
 * table of ids. A disk that is full or read-only stops neither policy nor DNS: a process that restarts takes the copy;
 * what could not be written is tried again until it is, and said in status meanwhile.
 */

import { existsSync } from 'node:fs';
import type { Revision } from '@tandem/core/ids';
import type { StableIds } from '@tandem/core/policy/model/stable-ids';
import { shareDirectory } from '@tandem/datapath/directories';
import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import type { SnapshotPaths } from '@tandem/dns-proxy/policy/saved-policy';
import type { Logger } from '@tandem/runtime/log';
import { syncSnapshotFile, writeSnapshotFile } from '@tandem/runtime/snapshot-file';
import { TandemError } from '@tandem/runtime/tandem-error';
import { IdFiles } from './id-files.ts';

export interface StateKeeperOptions {
  readonly stateDir: string;
  readonly paths: SnapshotPaths;
  /** Group that may read the snapshots. */
  readonly proxyGid: number;
  readonly log: Logger;
}

interface State {
  readonly revision: Revision;
  readonly snapshot: Uint8Array;
  readonly ids: StableIds;
}

export class StateKeeper {
  readonly counters = { written: 0, failed: 0, synced: 0 };
  readonly #o: StateKeeperOptions;
  /** State that is not on disk yet. */
  #unwritten: State | null = null;
  #writing: Promise<void> = Promise.resolve();
  #problem = '';
  #copyProblem = '';
  /** Revision of the copy in the run directory; 0: it could not be written. */
  #revisionOfCopy = 0;
  readonly #ids: IdFiles;
  #isSyncing = false;
  #isUnsynced = false;
  #idsProblem = '';
  #revisionOnDisk = 0;

  constructor(options: StateKeeperOptions) {
    this.#o = options;
    this.#ids = new IdFiles(options.stateDir);
  }

  /** Makes the directory, if that is possible now; `keep` tries again. */
  prepare(): void {
    try {
      this.#shareDirectory();
    } catch (error) {
      const failure = TandemError.from(error);
      this.#o.log.warn('the state directory cannot be prepared', { error: failure });
    }
  }

  /** The table of ids of the last run, or an empty one. */
  loadIds(): StableIds {
    return this.#ids.load(this.#o.log);
  }

  /** Writes, or remembers what to write. Never rejects. */
  async keep(state: State): Promise<void> {
    this.#unwritten = state;
    await this.#writeNext();
  }

  /**
   * The table of ids alone, before the kernel gets a class that is in none yet: after a restart its number must not mean
   * something else. Never throws.
   */
  keepIds(ids: StableIds): void {
    // What waits to be written must not bring an older table back.
    if (this.#unwritten !== null) this.#unwritten = { ...this.#unwritten, ids };
    try {
      this.#shareDirectory();
      this.#ids.keep(ids);
      this.#idsProblem = '';
    } catch (error) {
      this.counters.failed += 1;
      const failure = TandemError.from(error);
      if (this.#idsProblem !== failure.message) {
        this.#o.log.error(
          'the table of ids could not be written and will be written with the next change',
          {
            error: failure,
          },
        );
      }
      this.#idsProblem = failure.message;
    }
  }

  /** Writes what could not be written before, and tidies up, when nothing waits for it. Never rejects. */
  async tend(): Promise<void> {
    await this.#writeNext();
    try {
      this.#ids.tidy();
    } catch (error) {
      this.counters.failed += 1;
      this.#o.log.warn('the table of ids could not be rewritten', {
        error: TandemError.from(error),
      });
    }
  }

  async #writeNext(): Promise<void> {
    // One after the other: an older policy must not replace a newer one.
    this.#writing = this.#writing.then(() => this.#write());
    await this.#writing;
  }

  async #write(): Promise<void> {
    const state = this.#unwritten;
    if (state === null) return;
    const { log, paths } = this.#o;
    // First what needs no disk: it is what a process that restarts now must find.
    await this.#copy(state);
    try {
      this.#shareDirectory();
      this.#ids.keep(state.ids);
      await this.#writeTo(paths.disk, state);
    } catch (error) {
      this.counters.failed += 1;
      const failure = TandemError.from(error);
      if (this.#problem !== failure.message) {
        log.error('the policy snapshot could not be written and will be tried again', {
          error: failure,
        });
      }
      this.#problem = failure.message;
      return;
    }
    this.counters.written += 1;
    void this.#sync();
    this.#revisionOnDisk = state.revision;
    if (this.#problem !== '') log.info('policy snapshot written', { revision: state.revision });
    this.#problem = '';
    // A newer one may have come while this one was written.
    if (this.#unwritten === state) this.#unwritten = null;
  }

  /** Without it the disk's is all that there is: said in the log, and written with the next change. Never rejects. */
  async #copy(state: State): Promise<void> {
    // A write that is tried again because of the disk alone.
    if (this.#hasCopyOf(state)) return;
    try {
      await this.#writeTo(this.#o.paths.run, state);
      this.#revisionOfCopy = state.revision;
      this.#copyProblem = '';
    } catch (error) {
      this.counters.failed += 1;
      this.#revisionOfCopy = 0;
      const failure = TandemError.from(error);
      if (this.#copyProblem !== failure.message) {
        this.#o.log.warn('the policy snapshot could not be copied to the run directory', {
          error: failure,
        });
      }
      this.#copyProblem = failure.message;
    }
  }

  /** The run directory may have been emptied since. */
  #hasCopyOf({ revision }: State): boolean {
    return this.#revisionOfCopy === revision && existsSync(this.#o.paths.run);
  }

  async #writeTo(path: string, { snapshot }: State): Promise<void> {
    await writeSnapshotFile(path, snapshot, { mode: 0o640, groupId: this.#o.proxyGid });
  }

  get degradations(): readonly Degradation[] {
    const state = this.#unwritten;
    if (state === null || this.#problem === '') return [];
    const disk =
      this.#revisionOnDisk === 0 ? 'an earlier one or none' : `revision ${this.#revisionOnDisk}`;
    const { run } = this.#o.paths;
    const consequence = this.#hasCopyOf(state)
      ? `a process that restarts begins with the copy ${run}, and after a boot of the node with the policy on disk`
      : 'a process that restarts alone begins with the policy on disk';
    return [
      degradation('snapshot-not-written', {
        message: `policy revision ${state.revision} is in force and cannot be written to disk, which has ${disk}: ${this.#problem}; ${consequence}`,
      }),
    ];
  }

  #shareDirectory(): void {
    shareDirectory(this.#o.stateDir, 0, this.#o.proxyGid);
  }

  /** Syncs the last write, with later writes together: a burst of changes waits for no disk. */
  async #sync(): Promise<void> {
    this.#isUnsynced = true;
    if (this.#isSyncing) return;
    this.#isSyncing = true;
    while (this.#isUnsynced) {
      this.#isUnsynced = false;
      try {
        // oxlint-disable-next-line no-await-in-loop -- one at a time is the point
        await syncSnapshotFile(this.#o.paths.disk);
        this.counters.synced += 1;
      } catch (error) {
        // The next one writes it again; without a disk that keeps it, a loss of power costs the snapshot.
        this.#o.log.warn(
          'the policy snapshot could not be synced to disk: it may not survive a power failure',
          {
            error: TandemError.from(error),
          },
        );
      }
    }
    this.#isSyncing = false;
  }
}
