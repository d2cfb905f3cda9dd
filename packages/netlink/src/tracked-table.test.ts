// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  array,
  asyncProperty,
  boolean,
  assert as check,
  constantFrom,
  integer,
  record,
} from 'fast-check';
import { TrackedTable } from './tracked-table.ts';

const seed = Number(process.env['TANDEM_FUZZ_SEED'] ?? 20_260_101);

interface Entry {
  readonly key: number;
  readonly value: number;
}

/**
 * A kernel with one table: its reads give an entry at a time, with changes between them, and its notices
 * come in order, but late.
 */
class Kernel {
  readonly entries = new Map<number, Entry>();
  readonly notices: { entry: Entry; isGone: boolean }[] = [];

  change(key: number, value: number, isGone: boolean): void {
    const entry = isGone ? this.entries.get(key) : { key, value };
    if (entry === undefined) return;
    if (isGone) this.entries.delete(key);
    else this.entries.set(key, entry);
    this.notices.push({ entry, isGone });
  }
}

const key = integer({ min: 0, max: 7 });
const step = record({
  kind: constantFrom('change', 'change', 'notice', 'read'),
  key,
  value: integer({ min: 0, max: 2 }),
  isGone: boolean(),
});

test(`however reads, changes and notices mix, the copy becomes the table (seed ${seed})`, async () => {
  await check(
    asyncProperty(
      array(step, { maxLength: 40 }),
      array(step, { maxLength: 40 }),
      async (first, second) => {
        const kernel = new Kernel();
        let inside = second;
        const run = (steps: typeof first): void => {
          for (const each of steps) {
            if (each.kind === 'change') kernel.change(each.key, each.value, each.isGone);
            else if (each.kind === 'notice') deliver(1);
          }
        };
        const table = new TrackedTable<Entry>({
          keyOf: (entry) => entry.key,
          isSame: (left, right) => left.value === right.value,
          read: async () => {
            const found: Entry[] = [];
            for (let each = 0; each < 8; each++) {
              const entry = kernel.entries.get(each);
              if (entry !== undefined) found.push(entry);
              await Promise.resolve();
              run(inside.slice(0, 3));
              inside = inside.slice(3);
            }
            return found;
          },
        });
        const deliver = (count: number): void => {
          for (const { entry, isGone } of kernel.notices.splice(0, count))
            table.apply(entry, isGone);
        };
        const reading = table.read();
        run(first);
        await reading;
        if (first.some(({ kind }) => kind === 'read')) await table.read();
        deliver(kernel.notices.length);
        const sorted = (map: ReadonlyMap<string | number, Entry>): readonly Entry[] =>
          [...map.values()].sort((left, right) => left.key - right.key);
        assert.deepEqual(sorted(table.entries), sorted(kernel.entries));
      },
    ),
    { seed, numRuns: 1000 },
  );
});

test('only what is new is a change', async () => {
  let entries: readonly Entry[] = [{ key: 1, value: 1 }];
  const table = new TrackedTable<Entry>({
    keyOf: (entry) => entry.key,
    isSame: (left, right) => left.value === right.value,
    read: async () => entries,
  });
  assert.equal(await table.read(), true);
  assert.equal(await table.read(), false);
  assert.equal(table.apply({ key: 1, value: 1 }, false), false);
  assert.equal(table.apply({ key: 1, value: 2 }, false), true);
  assert.equal(table.apply({ key: 2, value: 2 }, true), false);
  assert.equal(table.apply({ key: 1, value: 2 }, true), true);
  entries = [];
  assert.equal(await table.read(), false);
});
