// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Source "directory": YAML files with ordinary Kubernetes objects, watched for change. A file that can't
 * be read keeps its last good content in force and is named in the diagnostics. So does what a document that
 * is no YAML held; the documents beside it count. A directory that has lost its last file is one that cannot be
 * read: so looks a mount point whose file system is not mounted, and it must not end all policy.
 */

import { type FSWatcher, readdirSync, watch } from 'node:fs';
import { join } from 'node:path';
import {
  filesMax,
  rescanIntervalMs,
  settleMs,
  unfinishedToldMs,
  unreachableRescanMs,
} from '../limits.ts';
import type { FileCopies } from './file-copies.ts';
import { keepFormer } from './former-objects.ts';
import { isManifest } from './manifest.ts';
import { readDocuments, type SourceObject } from './read-documents.ts';
import { readFinished, stampOf, UnfinishedFileError } from './read-manifest.ts';

const staysInForce = 'the last good content stays in force';
/** Without former content. No pod can be known to be meant by a text of which nothing can be read. */
const isOpen = 'nothing of it was in force before: pods that it alone restricts are open';
const othersAreOpen = 'and pods that other text of it restricts are open';
const isReadInPart = `nothing of such a document was in force before: a policy that can be read in part denies its pods everything, ${othersAreOpen}`;
const wasReadInPart = `nothing of it was in force whole before: a policy that was read in part denies its pods everything, ${othersAreOpen}`;
/** Beside content of which the last good one stays. */
const restIsReadInPart =
  '; a policy that was not in force before and can be read in part denies its pods everything';

export interface SourceProblem {
  readonly file: string;
  readonly message: string;
}

export interface SourceState {
  readonly objects: readonly SourceObject[];
  readonly problems: readonly SourceProblem[];
  /**
   * Sources that were never read since the start, so that their objects are unknown and not merely old: files, or the
   * directory itself.
   */
  readonly missing: readonly SourceProblem[];
  /** Why the directory cannot be read at present; null when it can. */
  readonly unreachable: string | null;
}

interface FileState {
  readonly stamp: string;
  readonly objects: readonly SourceObject[];
  readonly problem: string | null;
  /** Whether its content was ever understood. */
  readonly isRead: boolean;
}

export class DirectorySource {
  readonly #directory: string;
  readonly #onChange: (state: SourceState) => void;
  readonly #copies: FileCopies | null;
  readonly #files = new Map<string, FileState>();
  /** Files that are being written, with the time of the first look that found them so. */
  readonly #unfinished = new Map<string, number>();
  #folders: readonly string[] = [];
  /** Read, but not all of it. */
  #directoryProblem: string | null = null;
  #unreachable: string | null = null;
  #hasListed = false;
  #watcher: FSWatcher | null = null;
  #settle: NodeJS.Timeout | null = null;
  #rescan: NodeJS.Timeout | null = null;

  /** `copies`: of before this start; null: none are kept. */
  constructor(
    directory: string,
    onChange: (state: SourceState) => void,
    copies: FileCopies | null = null,
  ) {
    this.#directory = directory;
    this.#copies = copies;
    this.#onChange = onChange;
  }

  /** Directories in it, whose files are not read, as `kubectl apply -f` does not read them; hidden ones are left out. */
  get folders(): readonly string[] {
    return this.#folders;
  }

  /** Reads everything once, reports it, and watches from then on. */
  start(): void {
    this.#scan();
    this.#onChange(this.state());
    this.#rescan = setTimeout(() => this.#again(), this.#nextScanMs());
  }

  stop(): void {
    this.#watcher?.close();
    if (this.#settle !== null) clearTimeout(this.#settle);
    if (this.#rescan !== null) clearTimeout(this.#rescan);
  }

  state(): SourceState {
    const directory = this.#unreachable ?? this.#directoryProblem;
    const problems: SourceProblem[] = [];
    const missing: SourceProblem[] = [];
    if (directory !== null) problems.push({ file: this.#directory, message: directory });
    if (directory !== null && !this.#hasListed) missing.push(...problems);
    for (const [file, { problem, isRead }] of this.#files) {
      if (problem === null) continue;
      problems.push({ file, message: problem });
      if (!isRead) missing.push({ file, message: problem });
    }
    const objects = [...this.#files.values()].flatMap((file) => file.objects);
    return { objects, problems, missing, unreachable: this.#unreachable };
  }

  /** The watch only makes it faster: on some file systems it sees nothing, so the scan repeats. */
  #again(): void {
    this.#update();
    this.#rescan = setTimeout(() => this.#again(), this.#nextScanMs());
  }

  #nextScanMs(): number {
    return this.#unreachable === null ? rescanIntervalMs : unreachableRescanMs;
  }

  /** A directory that went away and came again is another one to the kernel. */
  #watch(): void {
    if (this.#watcher !== null) return;
    try {
      this.#watcher = watch(this.#directory, () => this.#onTouched());
      this.#watcher.on('error', () => this.#unwatch());
    } catch {
      // Read again every few seconds.
    }
  }

  #unwatch(): void {
    this.#watcher?.close();
    this.#watcher = null;
  }

  /** Editors and kubectl write in several steps: wait until the directory is quiet. */
  #onTouched(): void {
    if (this.#settle !== null) clearTimeout(this.#settle);
    this.#settle = setTimeout(() => this.#update(), settleMs);
  }

  #update(): void {
    if (this.#scan()) this.#onChange(this.state());
  }

  /** Returns whether anything changed. */
  #scan(): boolean {
    let names: string[];
    try {
      const entries = readdirSync(this.#directory, { withFileTypes: true });
      names = entries.flatMap(({ name }) => (isManifest(name) ? [name] : [])).sort();
      this.#folders = entries
        .filter((entry) => entry.isDirectory() && !isManifest(entry.name))
        .flatMap(({ name }) => (name.startsWith('.') ? [] : [name]));
    } catch (error) {
      return this.#lose(`cannot be read, ${staysInForce}: ${(error as Error).message}`);
    }
    if (names.length === 0 && this.#hadFiles()) {
      return this.#lose(
        `has no .yaml file any more, ${staysInForce}: mount it or put the files back; an empty .yaml file, alone, ends all policy`,
      );
    }
    let changed = this.#directoryProblem !== null || this.#unreachable !== null;
    this.#directoryProblem = null;
    this.#unreachable = null;
    this.#hasListed = true;
    this.#watch();
    if (names.length > filesMax) {
      this.#directoryProblem = `has ${names.length} files, ${filesMax} are read: merge some`;
      // Those that were read stay: a file more must not take what another one says out of force.
      names.sort((left, right) => Number(this.#files.has(right)) - Number(this.#files.has(left)));
      names.length = filesMax;
      names.sort();
    }
    for (const file of [...this.#files.keys()]) {
      if (names.includes(file)) continue;
      this.#files.delete(file);
      this.#unfinished.delete(file);
      changed = true;
    }
    for (const name of names) changed = this.#readFile(name) || changed;
    if (changed) {
      const isAllKnown = [...this.#files.values()].every(({ isRead }) => isRead);
      this.#copies?.finish(new Set(names), isAllKnown);
    }
    return changed;
  }

  /** Whether there was a file of objects, in this run or before it. */
  #hadFiles(): boolean {
    return this.#files.size > 0 || (!this.#hasListed && this.#copies?.hasAny === true);
  }

  /** Returns whether that is news. */
  #lose(problem: string): boolean {
    const isNew = this.#unreachable !== problem;
    this.#unreachable = problem;
    this.#unwatch();
    return isNew;
  }

  /** Content that a file had before this start, if it cannot be read now. */
  #fromCopy(name: string): Pick<FileState, 'objects' | 'isRead'> {
    const text = this.#copies?.read(name) ?? null;
    // Of which there is no copy was never in force, if there is one of all that was.
    if (text === null) return { objects: [], isRead: this.#copies?.wasComplete === true };
    return { objects: readDocuments(name, text), isRead: true };
  }

  /** Looks again soon. Whether it is too early to speak of it: most files are written in no time. */
  #isJustWritten(name: string): boolean {
    const nowMs = performance.now();
    const sinceMs = this.#unfinished.get(name) ?? nowMs;
    this.#unfinished.set(name, sinceMs);
    this.#onTouched();
    return nowMs - sinceMs < unfinishedToldMs;
  }

  #readFile(name: string): boolean {
    const path = join(this.#directory, name);
    const last = this.#files.get(name);
    let stamp = '';
    try {
      stamp = stampOf(path);
      if (last?.stamp === stamp) return false;
      const text = readFinished(path);
      // Written and closed meanwhile: a stamp that is older than the text is only read once more.
      this.#unfinished.delete(name);
      const read = readDocuments(name, text);
      const damaged = read.filter(({ damage }) => damage !== null);
      if (damaged.length === 0) {
        this.#files.set(name, { stamp, objects: read, problem: null, isRead: true });
        this.#copies?.keep(name, text);
        return true;
      }
      const { objects, isRead } = last ?? this.#fromCopy(name);
      const reasons = [...new Set(damaged.map(({ damage }) => damage))].join('; ');
      const kept = keepFormer(objects, read);
      const problem = `${reasons} (${fateOfDocuments(kept, read)})`;
      this.#files.set(name, { stamp, objects: kept, problem, isRead });
    } catch (error) {
      const isUnfinished = error instanceof UnfinishedFileError;
      if (isUnfinished && this.#isJustWritten(name) && last !== undefined) return false;
      // What is in the file now is read when it is finished, also if its time and size stay the same.
      if (isUnfinished) stamp = '';
      const message = (error as Error).message.split('\n')[0] ?? '';
      const { objects, isRead } = last ?? this.#fromCopy(name);
      const problem = `${message} (${fateOfFile(objects)})`;
      if (last?.problem === problem && last.stamp === stamp) return false;
      this.#files.set(name, { stamp, objects, problem, isRead });
    }
    return true;
  }
}

/** Text for damaged documents: objects of `kept` that `read` does not hold are from before, and stay in force. */
function fateOfDocuments(kept: readonly SourceObject[], read: readonly SourceObject[]): string {
  const isNow = new Set(read);
  if (kept.every((each) => isNow.has(each))) return isReadInPart;
  const isPartly = kept.some(({ damage }) => damage !== null);
  return `of such a document ${staysInForce}${isPartly ? restIsReadInPart : ''}`;
}

/** Text for a file of which nothing can be read now, with `kept` from before. */
function fateOfFile(kept: readonly SourceObject[]): string {
  if (kept.some(({ damage }) => damage === null)) return staysInForce;
  return kept.length > 0 ? wasReadInPart : isOpen;
}
