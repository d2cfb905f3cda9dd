// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Policy objects of the source -> what of them is in force: the current version, the last good one, or a
 * denial for the pods that are meant. An object without a readable name is identified by its position in the file.
 */

import { assert } from '@tandem/core/assert';
import type { PolicyObject } from '@tandem/core/k8s/objects';
import { rememberListed } from '@tandem/core/policy/compile/fit-costs';
import type { PolicyState } from '@tandem/core/policy/model/cluster-state';
import { condensed } from '@tandem/core/policy/model/condensed-policy';
import type { Diagnostic } from '@tandem/core/policy/model/desired';
import { formatPolicyRef, type InvalidPolicy, type Policy } from '@tandem/core/policy/model/rule';
import { parsePolicySafely } from '@tandem/core/policy/parse/judge-object';
import { duplicatePolicy } from '@tandem/core/policy/parse/policy-hold';
import type { Result } from '@tandem/core/result';
import type { SourceObject } from '../source/read-documents.ts';
import { areEqual, duplicate, placeOf } from './duplicates.ts';

type Found = readonly [object: PolicyObject, source: SourceObject];

export interface BuiltPolicyStates {
  /** By `formatPolicyRef`; objects without a name by their place as well. */
  readonly policies: ReadonlyMap<string, PolicyState>;
  readonly diagnostics: readonly Diagnostic[];
}

export class PolicyBuilder {
  /** Last valid version of each policy, by its reference. */
  readonly #lastGood = new Map<string, Policy>();
  /** Parsed policies of objects that are kept from one build to the next, as objects of the API are. */
  readonly #parsed = new WeakMap<PolicyObject, Result<Policy, InvalidPolicy>>();
  #states: ReadonlyMap<string, PolicyState> = new Map();
  /** Reference of the object at each position of each file. */
  #refAt: ReadonlyMap<string, string> = new Map();

  build(found: readonly Found[]): BuiltPolicyStates {
    const byRef = this.#byRef(found);
    const policies = new Map<string, PolicyState>();
    const diagnostics: Diagnostic[] = [];
    for (const [ref, versions] of byRef) {
      const sources = versions.map(([, source]) => source);
      const isSame = areEqual(sources);
      if (versions.length > 1 && isSame) diagnostics.push(duplicate(ref, sources, true));
      const state = isSame ? this.#single(ref, versions) : duplicated(versions);
      policies.set(ref, sameState(this.#states.get(ref), state));
    }
    this.#states = policies;
    for (const ref of this.#lastGood.keys()) {
      if (!policies.has(ref)) this.#lastGood.delete(ref);
    }
    return { policies, diagnostics };
  }

  /** One object of a source that has each once. `text`: its JSON, from which it is parsed again. */
  one(ref: string, object: PolicyObject, text: string, place: string): PolicyState {
    const parsed = parsePolicySafely(object);
    if (!parsed.ok) {
      return { inForce: this.#lastGood.get(ref) ?? null, invalid: parsed.error, place };
    }
    const inForce = condensed(parsed.value, () => readAgain(text));
    // It looks at all rules, and remembers.
    if (parsed.value.specs.length > 0) rememberListed(parsed.value, inForce);
    this.#lastGood.set(ref, inForce);
    return { inForce, invalid: null, place };
  }

  /** The object of that name is gone. */
  forget(ref: string): void {
    this.#lastGood.delete(ref);
  }

  #byRef(found: readonly Found[]): ReadonlyMap<string, readonly Found[]> {
    const named = new Set(found.filter(([object]) => isNamed(object)).map(refOf));
    const byRef = new Map<string, Found[]>();
    const refAt = new Map<string, string>();
    const counts = new Map<string, number>();
    for (const each of found) {
      const [object, source] = each;
      const count = counts.get(source.file) ?? 0;
      counts.set(source.file, count + 1);
      const position = `${source.file} ${count}`;
      let ref = refOf(each);
      if (!isNamed(object)) {
        const former = this.#refAt.get(position);
        ref = former === undefined || named.has(former) ? `${ref} ${placeOf(source)}` : former;
      }
      refAt.set(position, ref);
      byRef.set(ref, [...(byRef.get(ref) ?? []), each]);
    }
    this.#refAt = refAt;
    return byRef;
  }

  #single(ref: string, [first]: readonly Found[]): PolicyState {
    const [object, source] = first as Found;
    const place = placeOf(source);
    const parsed = this.#parsed.get(object) ?? parsePolicySafely(object);
    this.#parsed.set(object, parsed);
    if (!parsed.ok) {
      return { inForce: this.#lastGood.get(ref) ?? null, invalid: parsed.error, place };
    }
    this.#lastGood.set(ref, parsed.value);
    return { inForce: parsed.value, invalid: null, place };
  }
}

/** The former one, where nothing of it changed: who follows policies sees that. */
function sameState(former: PolicyState | undefined, state: PolicyState): PolicyState {
  const isSame =
    former?.inForce === state.inForce &&
    former.invalid === state.invalid &&
    former.place === state.place;
  return isSame ? former : state;
}

/** None of the versions is in force, nor an earlier one: it is not known which of them is meant. */
function duplicated(versions: readonly Found[]): PolicyState {
  const objects = versions.map(([object]) => object) as [PolicyObject, ...PolicyObject[]];
  const places = versions.map(([, source]) => placeOf(source));
  return { inForce: null, invalid: duplicatePolicy(objects, places) };
}

/** Whether kind, namespace and name are all there. */
function isNamed({ name, isPlaced, faults }: PolicyObject): boolean {
  return name !== '' && isPlaced && faults.every(({ path }) => path !== 'kind');
}

function refOf([{ kind, namespace, name }]: Found): string {
  return formatPolicyRef({ kind, namespace, name });
}

/** A policy that could be read before. */
function readAgain(text: string): Policy {
  const parsed = parsePolicySafely(JSON.parse(text) as PolicyObject);
  assert(parsed.ok, 'what was read can be read again');
  return parsed.value;
}
