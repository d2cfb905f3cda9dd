// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Compiles the policies that the node has room for. An object that asks for too much, or that compilation fails on, is left
 * out: the pods that it selects are denied, status names it, and all others are in force. The choice depends on the cluster
 * alone, so that others come into force as soon as an object shrinks or is removed. An object that is left out for its peers or names
 * (ClassOverflow, SelectorOverflow) stays out until any policy changes, because to compile with it takes seconds.
 */

import { MapFollower } from '../../change-map.ts';
import {
  classSelectorsMax,
  dnsServersPerObjectMax,
  fitFreshRounds,
  fitRoundsMax,
  policyEntriesMax,
} from '../../limits.ts';
import { ClassOverflow } from '../classes/class-overflow.ts';
import type { ClusterState, CompileOptions, PolicyState } from '../model/cluster-state.ts';
import type { Compiled } from '../model/desired.ts';
import { formatPolicyRef, type Policy } from '../model/rule.ts';
import { sameAs } from '../model/same-as.ts';
import type { StableIds } from '../model/stable-ids.ts';
import { holdOfPolicy } from '../parse/policy-hold.ts';
import { compile } from './compile.ts';
import { excessDiagnostics } from './compile-diagnostics.ts';
import {
  type Budgets,
  type Cost,
  costsInClasses,
  costsOf,
  costsOfObjects,
  type Excess,
  listedDnsServers,
  nodeBudgets,
  ResourceCounter,
} from './fit-costs.ts';
import { PolicyCompiler } from './policy-compiler.ts';
import { SelectorOverflow } from './selector-overflow.ts';

/** Key of `ClusterState.policies` -> why the object is left out. */
type LeftOut = ReadonlyMap<string, string>;

/** One compilation from nothing. */
export function compileFitting(
  cluster: ClusterState,
  options: CompileOptions,
  previousIds: StableIds,
  budgets: Budgets = nodeBudgets,
): Compiled {
  return new FittingCompiler(budgets).compile(cluster, options, previousIds);
}

/** Compilations one after the other, each of which costs as much as changed. */
export class FittingCompiler {
  readonly #budgets: Budgets;
  readonly #compiler: PolicyCompiler;
  readonly #counter = new ResourceCounter();
  readonly #policies = new MapFollower<PolicyState>();
  /** Why policies are left out from the start, as long as they do not change. */
  readonly #untried = new Map<string, string>();
  /** Why policies are left out as long as no policy changes: to find it again would take seconds for each pod that comes. */
  readonly #crowding = new Map<string, string>();
  readonly #leftOut = new WeakMap<PolicyState, PolicyState>();

  constructor(budgets: Budgets = nodeBudgets, selectorsMax: number = classSelectorsMax) {
    this.#budgets = budgets;
    this.#compiler = new PolicyCompiler(selectorsMax);
  }

  /** As `compile`; `fits` is false only when leaving out every policy is not enough. */
  compile(cluster: ClusterState, options: CompileOptions, previousIds: StableIds): Compiled {
    const leftOut = this.#notToBeTried(cluster);
    let isFromNothing = false;
    for (let round = 0; ; round++) {
      const state = this.#without(cluster, leftOut);
      let compiled: Compiled;
      try {
        compiled = this.#compiler.compile(state, options, previousIds);
      } catch (error) {
        if (isOverflow(error) && round < fitRoundsMax) {
          // Classes of before may have been in the way.
          if (!isFromNothing) {
            isFromNothing = true;
            round--;
            continue;
          }
          const alone = this.#tryAlone(state, options, previousIds);
          if (alone !== null) return alone;
          const crowding = chooseCrowding(state, error, round, this.#compiler.subjects());
          for (const [key, reason] of crowding) {
            leftOut.set(key, reason);
            this.#crowding.set(key, reason);
          }
          if (crowding.size > 0) continue;
        }
        const faulty = faultyPolicies(state, options, previousIds);
        if (faulty.length === 0 || round >= fitRoundsMax) throw error;
        for (const key of faulty) leftOut.set(key, bugText(error));
        const [only = ''] = faulty;
        if (faulty.length === 1) this.#untried.set(only, bugText(error));
        continue;
      }
      const excess = this.#counter.excessOf(compiled, this.#budgets);
      if (excess.length === 0) return compiled;
      const alone = this.#compileAlone(state, options, previousIds);
      if (alone !== null) return alone;
      const chosen = choose(state, compiled, excess, round, this.#compiler.subjects());
      if (chosen.size === 0) {
        const diagnostics = [...compiled.diagnostics, ...excessDiagnostics(excess)];
        return { ...compiled, diagnostics, fits: false };
      }
      for (const [key, reason] of chosen) leftOut.set(key, reason);
    }
  }

  #tryAlone(state: ClusterState, options: CompileOptions, previousIds: StableIds): Compiled | null {
    try {
      return this.#compileAlone(state, options, previousIds);
    } catch {
      return null;
    }
  }

  /** Without the policies of before, if there is only no room for both. */
  #compileAlone(
    state: ClusterState,
    options: CompileOptions,
    previousIds: StableIds,
  ): Compiled | null {
    if ((options.retain ?? []).length === 0 && options.served === undefined) return null;
    const { node, revision } = options;
    const compiled = this.#compiler.compile(state, { node, revision }, previousIds);
    const isExcess = this.#counter.excessOf(compiled, this.#budgets).length > 0;
    return isExcess ? null : { ...compiled, isRetained: false };
  }

  /** Objects that would be expensive to compile at all, and those that were found to be faulty. */
  #notToBeTried({ policies }: ClusterState): Map<string, string> {
    const changed = this.#policies.follow(policies);
    if (changed.size > 0) this.#crowding.clear();
    for (const key of changed.keys()) {
      const reason = reasonNotToTry(policies.get(key)?.inForce ?? null);
      if (reason === null) this.#untried.delete(key);
      else this.#untried.set(key, reason);
    }
    return new Map([...this.#untried, ...this.#crowding]);
  }

  #without(cluster: ClusterState, leftOut: LeftOut): ClusterState {
    if (leftOut.size === 0) return cluster;
    const policies = new Map(cluster.policies);
    for (const [key, reason] of leftOut) {
      const state = policies.get(key);
      if (state === undefined) continue;
      const left = sameAs(this.#leftOut.get(state), leaveOut(state, reason)) as PolicyState;
      this.#leftOut.set(state, left);
      policies.set(key, left);
    }
    return { ...cluster, policies };
  }
}

/**
 * Objects of the namespaces that take most of the scarce resource: more in each round, because estimates may be wrong. In the first
 * rounds of one namespace alone, because its objects may be the reason for entries of another one.
 */
function choose(
  state: ClusterState,
  compiled: Compiled,
  excess: readonly Excess[],
  round: number,
  subjects: ReadonlySet<string>,
): LeftOut {
  const chosen = new Map<string, string>();
  const keys = keysByRef(state);
  for (const { what, count, max } of excess) {
    let over = count - max;
    const costs = [...costsOf(what, state, compiled, subjects)];
    const taking = costs.filter(([, { cost }]) => cost > 0);
    // One that takes nothing makes no room. Entries are counted; of the others 0 may be too low an estimate, so these come last.
    const candidates = new Map(taking.length > 0 || what === 'policy' ? taking : costs);
    const ordered = inOrder(candidates);
    for (const [index, { ref, namespace, cost, gain }] of ordered.entries()) {
      if (over <= 0 && index >= 2 ** round) break;
      const isOther = namespace !== ordered[0]?.namespace;
      if (isOther && what === 'policy' && round < fitFreshRounds) break;
      over -= Math.max(1, gain);
      const key = keys.get(ref);
      const reason = `all policies of the node need ${count} of ${what}, there is room for ${max}, and this one takes about ${Math.ceil(cost)}: make it smaller`;
      if (key !== undefined) chosen.set(key, reason);
    }
  }
  return chosen;
}

/** Compilation stopped because there is no room for the result. */
function isOverflow(error: unknown): error is ClassOverflow | SelectorOverflow {
  return error instanceof ClassOverflow || error instanceof SelectorOverflow;
}

/** As `choose`, for a compilation that had no room for its result: the objects with the largest share in what it had made. */
function chooseCrowding(
  state: ClusterState,
  error: ClassOverflow | SelectorOverflow,
  round: number,
  subjects: ReadonlySet<string>,
): LeftOut {
  const isOfClasses = error instanceof ClassOverflow;
  const costs = isOfClasses
    ? costsInClasses(state, error.costs, subjects)
    : costsOfObjects(state, error.costs);
  const textOf = isOfClasses ? crowdingText : selectorsText;
  const keys = keysByRef(state);
  const chosen = new Map<string, string>();
  const ordered = inOrder(costs);
  for (const [index, { ref, namespace, cost }] of ordered.entries()) {
    const isOther = namespace !== ordered[0]?.namespace;
    if (index >= 2 ** round || (isOther && round < fitFreshRounds)) break;
    const key = keys.get(ref);
    if (key !== undefined) chosen.set(key, textOf(cost));
  }
  return chosen;
}

function selectorsText(cost: number): string {
  return `the names in toFQDNs of all policies of the node need more than ${policyEntriesMax} entries of policy, and this one takes about ${cost}: name fewer, or use wildcards`;
}

function crowdingText(cost: number): string {
  return `the peers of all policies of the node tell more kinds of addresses apart than it has memory for, and about ${Math.ceil(cost)} of ${classSelectorsMax} parts are due to this one: name fewer peers, or fewer exceptions`;
}

/**
 * In which order objects are left out: each time the largest one of the namespace whose rest takes most. So a namespace with
 * many small objects does not cost another one its large one.
 */
function inOrder(costs: ReadonlyMap<string, Cost>): readonly (Cost & { readonly ref: string })[] {
  const spaces = Map.groupBy(costs, ([, { namespace }]) => namespace);
  const ordered = [...spaces.values()].flatMap((objects) => {
    let rest = objects.reduce((sum, [, { cost }]) => sum + cost, 0);
    const largestFirst = objects.toSorted(
      ([leftRef, left], [rightRef, right]) =>
        right.cost - left.cost || (leftRef < rightRef ? -1 : 1),
    );
    return largestFirst.map(([ref, cost]) => {
      const withIt = rest;
      rest -= cost.cost;
      return { ...cost, ref, rest: withIt };
    });
  });
  return ordered.sort((left, right) => right.rest - left.rest || (left.ref < right.ref ? -1 : 1));
}

function reasonNotToTry(policy: Policy | null): string | null {
  if (policy === null) return null;
  try {
    const count = listedDnsServers(policy);
    return count > dnsServersPerObjectMax ? tooManyServersText(count) : null;
  } catch (error) {
    return bugText(error);
  }
}

function tooManyServersText(count: number): string {
  return `its rules.dns name ${count} DNS servers, at most ${dnsServersPerObjectMax} are possible: name fewer or smaller CIDRs`;
}

function bugText(error: unknown): string {
  const reason = error instanceof Error ? error.message : String(error);
  return `cannot be compiled, which is a bug of this version (${reason})`;
}

/** Policies that compilation fails on, each by itself; one, or those that do so together, at a time. */
function faultyPolicies(
  state: ClusterState,
  options: CompileOptions,
  previousIds: StableIds,
): readonly string[] {
  const fails = (keys: readonly string[]): boolean => {
    const kept = new Set(keys);
    const policies = new Map([...state.policies].filter(([key]) => kept.has(key)));
    try {
      compile({ ...state, policies }, options, previousIds);
      return false;
    } catch {
      return true;
    }
  };
  let suspects = [...state.policies.keys()].sort();
  if (fails([])) return [];
  while (suspects.length > 1) {
    const half = suspects.length >> 1;
    const parts = [suspects.slice(0, half), suspects.slice(half)];
    const bad = parts.find(fails);
    if (bad === undefined) return suspects;
    suspects = bad;
  }
  return suspects;
}

function leaveOut({ inForce, invalid, place = '' }: PolicyState, reason: string): PolicyState {
  const errors = [{ path: '', message: reason }, ...(invalid?.errors ?? [])];
  if (inForce === null) {
    // Not even its substitute can be compiled.
    const nothing = { hold: [], holdScope: 'unknown' } as const;
    return {
      inForce,
      invalid: invalid === null ? null : { ...invalid, ...nothing, errors },
      place,
    };
  }
  const { ref } = inForce;
  const held = { ref, code: 'policy-left-out', errors, ...holdOfPolicy(inForce) } as const;
  return { inForce: null, invalid: held, place };
}

function keysByRef(state: ClusterState): ReadonlyMap<string, string> {
  const keys = new Map<string, string>();
  for (const [key, { inForce }] of state.policies) {
    if (inForce !== null) keys.set(formatPolicyRef(inForce.ref), key);
  }
  return keys;
}
