// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The table of ids over the lives of an agent, in two files. */

import assert from 'node:assert/strict';
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { StableIds } from '@tandem/core/policy/model/stable-ids';
import { digest128 } from '@tandem/core/sha256';
import type { Logger } from '@tandem/runtime/log';
import { ownPrefix } from '@tandem/testing/namespace';
import { idRowsAddedMax } from '../limits.ts';
import { IdFiles } from './id-files.ts';

const nothing = (): void => undefined;
const log = { debug: nothing, info: nothing, warn: nothing, error: nothing } as unknown as Logger;

function temporaryDirectory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), `${ownPrefix}ids-`));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

function withMore(ids: StableIds, ...contents: readonly string[]): StableIds {
  const change = ids.change();
  change.use('class', contents.map(digest128));
  return change.end();
}

const idOf = (ids: StableIds, content: string): number | undefined =>
  ids.idOf('class', digest128(content));

const numbers = (from: number, count: number): readonly string[] =>
  Array.from({ length: count }, (_, i) => `content ${from + i}`);

test('what comes is added, and read with the rest in the next life', () => {
  using directory = temporaryDirectory();
  const whole = join(directory.path, 'ids.json');
  const added = join(directory.path, 'ids-added.jsonl');
  const files = new IdFiles(directory.path);
  let ids = withMore(files.load(log), 'a', 'b');
  files.keep(ids);
  const before = readFileSync(whole, 'utf8');
  for (const content of ['c', 'd']) {
    ids = withMore(ids, content);
    files.keep(ids);
    files.keep(ids);
  }
  assert.equal(readFileSync(whole, 'utf8'), before, 'not written again');
  assert.equal(readFileSync(added, 'utf8').split('\n').length, 3);
  assert.equal(statSync(added).mode & 0o777, 0o600);

  const next = new IdFiles(directory.path);
  const read = next.load(log);
  for (const content of ['a', 'b', 'c', 'd']) assert.equal(idOf(read, content), idOf(ids, content));
  const later = withMore(read, 'a', 'e');
  next.keep(later);
  assert.equal(readFileSync(whole, 'utf8'), before, 'goes on where the last life ended');
  assert.equal(idOf(new IdFiles(directory.path).load(log), 'e'), idOf(later, 'e'));
});

test('a part of a line, and what follows it, is left out; the next write that fails is followed by a whole one', () => {
  using directory = temporaryDirectory();
  const added = join(directory.path, 'ids-added.jsonl');
  const files = new IdFiles(directory.path);
  let ids = withMore(StableIds.empty(), 'a');
  files.keep(ids);
  ids = withMore(ids, 'b');
  files.keep(ids);
  appendFileSync(added, '["class",["12');
  const read = new IdFiles(directory.path).load(log);
  assert.equal(idOf(read, 'b'), idOf(ids, 'b'));

  // No file can be written where a directory stands.
  rmSync(added);
  writeFileSync(join(directory.path, 'x'), '');
  const blocked = new IdFiles(join(directory.path, 'x'));
  assert.throws(() => blocked.keep(ids));
  const healed = new IdFiles(directory.path);
  healed.load(log);
  healed.keep(withMore(ids, 'c'));
  assert.equal(idOf(new IdFiles(directory.path).load(log), 'c'), idOf(withMore(ids, 'c'), 'c'));
});

test('nothing is added behind a part of a line', () => {
  using directory = temporaryDirectory();
  const files = new IdFiles(directory.path);
  let ids = withMore(StableIds.empty(), 'a');
  files.keep(ids);
  ids = withMore(ids, 'b');
  files.keep(ids);
  // As a full disk leaves it, or a loss of power, when the agent ends before it writes again.
  appendFileSync(join(directory.path, 'ids-added.jsonl'), '["class",["12');
  const next = new IdFiles(directory.path);
  ids = withMore(next.load(log), 'c');
  next.keep(ids);
  ids = withMore(ids, 'd');
  next.keep(ids);
  const read = new IdFiles(directory.path).load(log);
  for (const content of ['a', 'b', 'c', 'd'])
    assert.equal(idOf(read, content), idOf(ids, content), content);
});

test('many are written whole, and the second file does not grow for ever', () => {
  using directory = temporaryDirectory();
  const added = join(directory.path, 'ids-added.jsonl');
  const files = new IdFiles(directory.path);
  let ids = withMore(StableIds.empty(), 'a');
  files.keep(ids);
  ids = withMore(ids, ...numbers(0, idRowsAddedMax + 1));
  files.keep(ids);
  assert.equal(existsSync(added), false);
  const half = idRowsAddedMax / 2 + 1;
  for (const from of [10_000, 20_000]) {
    ids = withMore(ids, ...numbers(from, half));
    files.keep(ids);
  }
  assert.equal(existsSync(added), true);
  files.tidy();
  assert.equal(existsSync(added), false);
  const read = new IdFiles(directory.path).load(log);
  assert.equal(idOf(read, 'content 20001'), idOf(ids, 'content 20001'));
});
