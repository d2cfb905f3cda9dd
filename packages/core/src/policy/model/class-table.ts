// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Differences of two tables of classes. */

import type { ClassTable } from './desired.ts';

const nothing: ClassTable = { classesOf: new Map(), selectorsOf: new Map() };

/** Classes by id. An id that means another set of selectors in the other table is in none of them the same class. */
export function classesOnlyIn(table: ClassTable, other: ClassTable): ClassTable {
  if (table === other) return nothing;
  const selectorsOf = new Map<number, readonly string[]>();
  const classesOf = new Map<string, number[]>();
  for (const [id, selectors] of table.selectorsOf) {
    const others = other.selectorsOf.get(id);
    if (others !== undefined && areSame(selectors, others)) continue;
    selectorsOf.set(id, selectors);
    for (const key of selectors) {
      const ids = classesOf.get(key);
      if (ids === undefined) classesOf.set(key, [id]);
      else ids.push(id);
    }
  }
  return selectorsOf.size === 0 ? nothing : { classesOf, selectorsOf };
}

function areSame(left: readonly string[], right: readonly string[]): boolean {
  return (
    left === right || (left.length === right.length && left.every((key, i) => key === right[i]))
  );
}
