// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parsePrefix } from '@tandem/core/net/ip';
import { ClassEntries, type ClassEntry } from '@tandem/core/policy/model/class-entries';
import type { Compiled } from '@tandem/core/policy/model/desired';
import type { Entry } from '@tandem/datapath/encode';
import { mapChange } from './map-change.ts';

const classTable = { classesOf: new Map(), selectorsOf: new Map() };

function compiledWith(classes: Iterable<ClassEntry>): Compiled {
  return {
    classes: ClassEntries.of(classes),
    classTable,
    policies: new Map(),
  } as Partial<Compiled> as Compiled;
}

function keysOf(entries: readonly Entry[] | null | undefined): string[] {
  return (entries ?? []).map(({ key }) => Buffer.from(key).toString('hex'));
}

test('classes are written and removed in the order of their keys, the same in each process', () => {
  const entries = Array.from({ length: 300 }, (_, i): ClassEntry => {
    const prefix = parsePrefix(`10.${(i * 7) % 251}.${i % 256}.${(i * 31) % 256}/32`);
    assert.ok(prefix !== null);
    return { prefix, classId: 2, flags: 0 };
  });
  const [none, all] = [compiledWith([]), compiledWith(entries)];
  const written = keysOf(mapChange(none, all)?.classes);
  assert.equal(written.length, entries.length);
  assert.deepEqual(written, written.toSorted());
  assert.deepEqual(keysOf(mapChange(all, none)?.goneClasses), written);
});
