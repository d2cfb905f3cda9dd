// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Whom the entries of the kernel's `policy` are due to, for the order in which objects are left out.
 *
 * A rule takes entries for each class that its selectors match, and there are as many classes as the selectors of all objects
 * distinguish peers. So a clusterwide object pays for one class of its own selectors; what it takes beyond that is paid by the other objects
 * whose selectors make the classes. Else a tenant's many selectors would cost an administrator's policy for all pods its place. An
 * object of a namespace pays half of that itself: else its many ports would cost those with many selectors their place.
 */

import type { EntryShape } from '../model/answer.ts';
import type { ClassTable, Compiled } from '../model/desired.ts';
import { forEachPeer } from './expand.ts';

/** Entries for one class, which the objects that have a selector of it pay. */
interface Pool {
  /** With the part of the class that their selectors make: one that matches many classes makes little of each. */
  readonly owners: ReadonlyMap<string, number>;
  /** Entries of owners' rules; each pays nothing of its own part. */
  readonly ofOwners: Map<string, Shared>;
  /** Entries of others' rules for every peer, which are repeated for each class. */
  readonly foreign: Shared;
}

export interface EntryCost {
  /** Entries that are due to the object; a part of them is fractions. */
  readonly cost: number;
  /** Entries that are free without it, about: those of its own rules, and its part of others' that its selectors make. */
  readonly gain: number;
}

/** Entries that an object takes because others distinguish peers. */
interface Shared {
  count: number;
  /** The part of them that the others pay. */
  due: number;
}

/** By object, as `formatPolicyRef` names it. */
export function entriesByObject(compiled: Compiled): ReadonlyMap<string, EntryCost> {
  const { policies, classTable, rules } = compiled;
  const refOf = (ruleId: number): string => (rules.get(ruleId)?.text ?? '').split(': ')[0] ?? '';
  const ownersOf = ownersByKey(compiled, refOf);
  const pools = new Map<number, Pool>();
  const costs = new Map<string, number>();
  const gains = new Map<string, number>();
  const add = (to: Map<string, number>, ref: string, count: number): void => {
    to.set(ref, (to.get(ref) ?? 0) + count);
  };
  const pay = (ref: string, count: number): void => add(costs, ref, count);
  const countsOf = new Map<readonly EntryShape[], ReadonlyMap<string, number>>();
  for (const policy of policies.values()) {
    forEachPeer(policy, classTable, 'all', (peer, shape) => {
      const counts = countsOf.get(shape) ?? countsByRef(shape, refOf);
      countsOf.set(shape, counts);
      const keys = classTable.selectorsOf.get(peer) ?? [];
      const pool = pools.get(peer) ?? poolOf(keys, ownersOf, classTable);
      pools.set(peer, pool);
      for (const [ref, count] of counts) {
        add(gains, ref, count);
        const made = pool.owners.get(ref);
        const isOwner = made !== undefined;
        if (pool.owners.size <= (isOwner ? 1 : 0)) {
          pay(ref, count);
          continue;
        }
        const own = count * (made ?? 0);
        const due = (count - own) * (isClusterwide(ref) ? 1 : tenantShare);
        pay(ref, count - due);
        const shared = isOwner ? sharedBy(pool, ref) : pool.foreign;
        shared.count += count - own;
        shared.due += due;
      }
    });
    countsOf.clear();
  }
  for (const { owners, ofOwners, foreign } of pools.values()) {
    const all = owners.values().reduce((sum, made) => sum + made, 0);
    // For a whole class made; of owners' shares the owner itself pays nothing.
    const perMade = divided(foreign, all);
    for (const [ref, shared] of ofOwners) {
      const part = divided(shared, all - (owners.get(ref) ?? 0));
      perMade.count += part.count;
      perMade.due += part.due;
    }
    for (const [ref, made] of owners) {
      const own = ofOwners.get(ref);
      const ownPart = own === undefined ? nothingShared : divided(own, all - made);
      pay(ref, made * (perMade.due - ownPart.due));
      add(gains, ref, made * (perMade.count - ownPart.count));
    }
  }
  const refs = new Set([...costs.keys(), ...gains.keys()]);
  return new Map(
    [...refs].map((ref) => [ref, { cost: costs.get(ref) ?? 0, gain: gains.get(ref) ?? 0 }]),
  );
}

const nothingShared: Readonly<Shared> = { count: 0, due: 0 };

function divided({ count, due }: Shared, parts: number): Shared {
  return { count: count / parts, due: due / parts };
}

function sharedBy({ ofOwners }: Pool, ref: string): Shared {
  const known = ofOwners.get(ref);
  if (known !== undefined) return known;
  const shared = { ...nothingShared };
  ofOwners.set(ref, shared);
  return shared;
}

/** Part of an object's entries beyond its own that other objects pay, where the object has a namespace. */
const tenantShare = 0.5;

/** `Kind/name`, not `Kind/namespace/name`. */
const isClusterwide = (ref: string): boolean => ref.split('/').length === 2;

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

function poolOf(keys: readonly string[], ownersOf: OwnersOf, { classesOf }: ClassTable): Pool {
  const owners = new Map<string, number>();
  for (const key of keys) {
    const made = 1 / (classesOf.get(key)?.length ?? 1);
    for (const ref of ownersOf.get(key) ?? [])
      owners.set(ref, Math.max(made, owners.get(ref) ?? 0));
  }
  return { owners, ofOwners: new Map(), foreign: { ...nothingShared } };
}
