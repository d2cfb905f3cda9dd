// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Whom the entries of the kernel's `policy` are due to, for the order in which objects are left out.
 *
 * A rule takes entries for each class that its selectors match, and there are as many classes as the selectors of all objects tell
 * peers apart. So an object pays for one class of its own selectors; what it takes beyond that is paid by the other objects whose
 * selectors make the classes. Else a tenant's many selectors would cost an administrator's policy for all pods its place.
 */

import type { EntryShape } from './answer.ts';
import type { ClassTable, Compiled } from './desired.ts';
import { forEachPeer } from './expand.ts';

/** Entries for one class, which the objects that have a selector of it pay. */
interface Pool {
  readonly owners: ReadonlySet<string>;
  /** Due to owners, each of which pays nothing of its own part. */
  readonly ofOwners: Map<string, number>;
  /** Due to rules for every peer, which are repeated for each class. */
  foreign: number;
}

/** Entries by object, as `formatPolicyRef` names it; parts of them are fractions. */
export function entriesByObject(compiled: Compiled): ReadonlyMap<string, number> {
  const { policies, classTable, rules } = compiled;
  const refOf = (ruleId: number): string => (rules.get(ruleId)?.text ?? '').split(': ')[0] ?? '';
  const ownersOf = ownersByKey(compiled, refOf);
  const pools = new Map<number, Pool>();
  const costs = new Map<string, number>();
  const pay = (ref: string, count: number): void => {
    costs.set(ref, (costs.get(ref) ?? 0) + count);
  };
  const countsOf = new Map<readonly EntryShape[], ReadonlyMap<string, number>>();
  for (const policy of policies.values()) {
    forEachPeer(policy, classTable, 'all', (peer, shape) => {
      const counts = countsOf.get(shape) ?? countsByRef(shape, refOf);
      countsOf.set(shape, counts);
      const keys = classTable.selectorsOf.get(peer) ?? [];
      const pool = pools.get(peer) ?? poolOf(keys, ownersOf);
      pools.set(peer, pool);
      for (const [ref, count] of counts) {
        const isOwner = pool.owners.has(ref);
        if (pool.owners.size <= (isOwner ? 1 : 0)) pay(ref, count);
        else if (isOwner) {
          const own = count / fewestClasses(ref, keys, ownersOf, classTable);
          pay(ref, own);
          pool.ofOwners.set(ref, (pool.ofOwners.get(ref) ?? 0) + count - own);
        } else pool.foreign += count;
      }
    });
    countsOf.clear();
  }
  for (const { owners, ofOwners, foreign } of pools.values()) {
    const all = ofOwners.values().reduce((sum, count) => sum + count, 0);
    for (const ref of owners) {
      const ofOthers = all - (ofOwners.get(ref) ?? 0);
      pay(ref, foreign / owners.size + ofOthers / Math.max(1, owners.size - 1));
    }
  }
  return costs;
}

type OwnersOf = ReadonlyMap<string, ReadonlySet<string>>;

function ownersByKey({ policies }: Compiled, refOf: (ruleId: number) => string): OwnersOf {
  const owners = new Map<string, Set<string>>();
  for (const { peers, ruleId } of policies.values().flatMap((policy) => policy.rules)) {
    if (peers === 'any') continue;
    const ref = refOf(ruleId);
    for (const key of peers) {
      const known = owners.get(key);
      if (known === undefined) owners.set(key, new Set([ref]));
      else known.add(ref);
    }
  }
  return owners;
}

function countsByRef(
  shape: readonly EntryShape[],
  refOf: (ruleId: number) => string,
): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { ruleId } of shape) {
    const ref = refOf(ruleId);
    counts.set(ref, (counts.get(ref) ?? 0) + 1);
  }
  return counts;
}

function poolOf(keys: readonly string[], ownersOf: OwnersOf): Pool {
  const owners = new Set(keys.flatMap((key) => [...(ownersOf.get(key) ?? [])]));
  return { owners, ofOwners: new Map(), foreign: 0 };
}

/** Classes of that selector of the object which has the fewest, of those that match the class with these keys. */
function fewestClasses(
  ref: string,
  keys: readonly string[],
  ownersOf: OwnersOf,
  { classesOf }: ClassTable,
): number {
  const own = keys.filter((key) => ownersOf.get(key)?.has(ref));
  return Math.min(...own.map((key) => classesOf.get(key)?.length ?? 1));
}
