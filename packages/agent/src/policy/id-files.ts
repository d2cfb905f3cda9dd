// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The table of ids on disk: the whole of it in one file, and in another, line by line, what has come since that was
 * written. A pod that starts adds two lines; it does not write tens of thousands again.
 */

import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  constants,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { StableIds } from '@tandem/core/policy/model/stable-ids';
import type { Logger } from '@tandem/runtime/log';
import { TandemError } from '@tandem/runtime/tandem-error';
import { idRowsAddedMax } from '../limits.ts';

export class IdFiles {
  readonly #path: string;
  readonly #addedPath: string;
  /** Ids of both files together; null: unknown. */
  #onDisk: StableIds | null = null;
  /** Lines of the second file. */
  #added = 0;
  readonly #salt = randomBytes(16).toString('hex');

  constructor(directory: string) {
    this.#path = join(directory, 'ids.json');
    this.#addedPath = join(directory, 'ids-added.jsonl');
  }

  /** The table of the last run, or an empty one. */
  load(log: Logger): StableIds {
    let text: string;
    try {
      text = read(this.#path);
    } catch {
      // The first start of this node: ids are digests of contents, so nothing is lost.
      return StableIds.empty(this.#salt);
    }
    const path = this.#path;
    try {
      const decoded = StableIds.decode(JSON.parse(text), this.#salt);
      if (decoded.ok) {
        const { rows, isWhole } = this.#readAdded();
        this.#added = rows.length;
        const ids = decoded.value.withRows(rows);
        // Behind a part of a line nothing could be read that is added: then all is written again.
        this.#onDisk = isWhole ? ids : null;
        return ids;
      }
      log.warn('the table of ids cannot be used: a new one is started', {
        path,
        reason: decoded.error,
      });
    } catch (error) {
      const failure = TandemError.from(error);
      log.warn('the table of ids cannot be used: a new one is started', { path, error: failure });
    }
    return StableIds.empty(this.#salt);
  }

  /** Returns when the files have these ids. @throws the error of the system: they may not */
  keep(ids: StableIds): void {
    const former = this.#onDisk;
    if (ids === former) return;
    if (former === null) {
      this.#write(ids);
      return;
    }
    const rows = [...ids.newSince(former)];
    if (rows.length > idRowsAddedMax) {
      this.#write(ids);
      return;
    }
    // Half a line may be there when this fails: then all is written again.
    this.#onDisk = null;
    if (rows.length > 0) {
      const lines = rows.map((row) => `${JSON.stringify(row)}\n`).join('');
      appendFileSync(this.#addedPath, lines, { mode: 0o600 });
    }
    this.#added += rows.length;
    this.#onDisk = ids;
  }

  /** Makes one file of two when the second one has grown. @throws as `keep` */
  tidy(): void {
    if (this.#onDisk !== null && this.#added > idRowsAddedMax) this.#write(this.#onDisk);
  }

  #write(ids: StableIds): void {
    const temporary = `${this.#path}.new`;
    this.#onDisk = null;
    try {
      writeFileSync(temporary, JSON.stringify(ids.encode()), { mode: 0o600 });
      renameSync(temporary, this.#path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
    // After it: what is in both files is taken once.
    rmSync(this.#addedPath, { force: true });
    this.#added = 0;
    this.#onDisk = ids;
  }

  /** Up to the first line that is none: a writer that died may have left a part of one. */
  #readAdded(): { readonly rows: (readonly [unknown, unknown])[]; readonly isWhole: boolean } {
    let text: string;
    try {
      text = read(this.#addedPath);
    } catch (error) {
      return { rows: [], isWhole: (error as NodeJS.ErrnoException).code === 'ENOENT' };
    }
    const rows: (readonly [unknown, unknown])[] = [];
    const lines = text.split('\n');
    const rest = lines.pop();
    for (const line of lines) {
      try {
        const row: unknown = JSON.parse(line);
        if (!Array.isArray(row) || row.length !== 2) break;
        rows.push(row as [unknown, unknown]);
      } catch {
        break;
      }
    }
    return { rows, isWhole: rest === '' && rows.length === lines.length };
  }
}

function read(path: string): string {
  return readFileSync(path, {
    encoding: 'utf8',
    // A pipe of that name is not waited for.
    flag: constants.O_RDONLY | constants.O_NONBLOCK,
  });
}
