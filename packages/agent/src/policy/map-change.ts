// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Entries to write into `policy` and `classes`, and entries to remove: all of them, or only the difference, if the maps hold the
 * former compilation exactly.
 */

import { expandClasses, expandPolicy } from '@tandem/core/policy/compile/expand';
import type { ClassEntry } from '@tandem/core/policy/model/class-entries';
import { classesOnlyIn } from '@tandem/core/policy/model/class-table';
import type { ClassTable, Compiled, CompiledPolicy } from '@tandem/core/policy/model/desired';
import { type Entry, encodeClass, encodePolicy } from '@tandem/datapath/encode';

export interface MapChange {
  /** Entries of former and new policies, for the new classes. */
  readonly policy: readonly Entry[];
  readonly classes: readonly Entry[];
  /** Entries to remove when no address has a former class, and no endpoint a former policy. Null: all that are not wanted. */
  readonly goneClasses: readonly Entry[] | null;
  readonly gonePolicy: readonly Entry[] | null;
}

/** The maps hold `former` and nothing else. Null: a number has another meaning now, so all entries are to be written. */
export function mapChange(former: Compiled, compiled: Compiled): MapChange | null {
  const before = former.classTable;
  const after = compiled.classTable;
  const added = classesOnlyIn(after, before);
  const gone = classesOnlyIn(before, after);
  // The entries of such a number would be written and removed in one change.
  if (added.selectorsOf.keys().some((id) => gone.selectorsOf.has(id))) return null;
  const policy: Entry[] = [];
  const gonePolicy: Entry[] = [];
  for (const each of compiled.policies.values()) {
    if (former.policies.has(each.id)) {
      pushEntries(policy, expandClasses(each, added));
      pushEntries(gonePolicy, expandClasses(each, gone));
    } else pushEntries(policy, expandPolicy(each, after));
  }
  for (const each of former.policies.values()) {
    if (compiled.policies.has(each.id)) continue;
    const entries = expandClasses(each, added);
    pushEntries(policy, entries);
    pushEntries(gonePolicy, entries);
    pushEntries(gonePolicy, expandPolicy(each, before));
  }
  const classes: Entry[] = [];
  const goneClasses: Entry[] = [];
  compiled.classes.forEachChange(former.classes, (held, wanted) => {
    if (wanted !== null) classes.push(entryOf(wanted));
    else if (held !== null) goneClasses.push(entryOf(held));
  });
  // `forEachChange` goes by a hash whose key each process draws; a schedule of the simulator must write the same in each.
  classes.sort(byKey);
  goneClasses.sort(byKey);
  return { policy, classes, gonePolicy, goneClasses };
}

function byKey(left: Entry, right: Entry): number {
  return Buffer.compare(left.key, right.key);
}

export function entryOf({ prefix, classId, flags }: ClassEntry): Entry {
  return encodeClass(prefix.address, prefix.bits, classId, flags);
}

export function policyEntries(policies: Iterable<CompiledPolicy>, classes: ClassTable): Entry[] {
  const entries: Entry[] = [];
  for (const policy of policies) pushEntries(entries, expandPolicy(policy, classes));
  return entries;
}

function pushEntries(entries: Entry[], expanded: ReturnType<typeof expandPolicy>): void {
  for (const entry of expanded) entries.push(encodePolicy(entry));
}
