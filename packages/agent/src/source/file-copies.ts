// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The last good content of each file of the source, kept for the next start: a file that is broken by then
 * is known as it was, and need not keep the others from being applied. As long as every good file has its
 * copy, a marker says so: a broken file without one was never in force. A disk that takes no copies costs
 * only that.
 */

import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '@tandem/datapath/directories';
import { isManifest } from './manifest.ts';

/** Holds the path of the source; no manifest has such a name. */
const markerName = 'complete';

export class FileCopies {
  readonly counters = { failed: 0 };
  /** Whether there is a copy of every file of which something may be in force: the agent's previous process left one of all, or nothing is. */
  readonly wasComplete: boolean;
  readonly #directory: string;
  readonly #source: string;
  readonly #failed = new Set<string>();
  #isMarked: boolean;

  /** `source`: the directory that the files are of; copies of another one are removed. `isInForce`: a policy of before is. */
  constructor(directory: string, source: string, isInForce = true) {
    this.#directory = directory;
    this.#source = source;
    const marked = this.read(markerName);
    this.#isMarked = marked === source;
    this.wasComplete = this.#isMarked || !isInForce;
    if (marked !== null && !this.#isMarked) this.#removeOthers(new Set());
  }

  get #marker(): string {
    return join(this.#directory, markerName);
  }

  /** The copy of a file; null when there is none that can be read. */
  read(name: string): string | null {
    try {
      return readFileSync(join(this.#directory, name), 'utf8');
    } catch {
      return null;
    }
  }

  /** Whether there is a copy of any file. */
  get hasAny(): boolean {
    try {
      return readdirSync(this.#directory).some(isManifest);
    } catch {
      return false;
    }
  }

  keep(name: string, text: string): void {
    this.#failed.delete(name);
    if (this.read(name) === text) return;
    const path = join(this.#directory, name);
    const temporary = `${path}.new`;
    try {
      makeDirectory(this.#directory, 0o700);
      writeFileSync(temporary, text, { mode: 0o600 });
      renameSync(temporary, path);
      rmQuietly(asideOf(path));
    } catch {
      this.counters.failed += 1;
      this.#failed.add(name);
      this.#isMarked = false;
      setAside(this.#marker);
      rmQuietly(temporary);
      // A stale copy would restore old policy at the next start. It is renamed, not removed: the snapshot needs the
      // room that a removal frees on a full disk.
      setAside(path);
    }
  }

  /**
   * After all files were looked at: removes copies of those that are gone, and says that there is one of
   * each, unless there is a file of which it is not known what it was.
   */
  finish(names: ReadonlySet<string>, isAllKnown: boolean): void {
    for (const name of this.#failed) if (!names.has(name)) this.#failed.delete(name);
    this.#removeOthers(names);
    if (this.#isMarked || this.#failed.size > 0 || !isAllKnown) return;
    try {
      makeDirectory(this.#directory, 0o700);
      writeFileSync(this.#marker, this.#source, { mode: 0o600 });
      rmQuietly(asideOf(this.#marker));
      this.#isMarked = true;
    } catch {
      // Tried again after the next change.
    }
  }

  #removeOthers(names: ReadonlySet<string>): void {
    let present: string[];
    try {
      present = readdirSync(this.#directory);
    } catch {
      return;
    }
    for (const name of present) {
      if (isManifest(name) && !names.has(name)) rmQuietly(join(this.#directory, name));
    }
  }
}

const asideOf = (path: string): string => `${path}.old`;

/** Takes no room, and gives none. */
function setAside(path: string): void {
  try {
    renameSync(path, asideOf(path));
  } catch {
    // There is none.
  }
}

function rmQuietly(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // As read-only as it was for the copy.
  }
}
