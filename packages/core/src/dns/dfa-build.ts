// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Subset construction over a `PatternTrie`, with a budget: patterns with stars between characters
 * can need exponentially many states, and the author of a policy chooses the patterns (threat T21).
 *
 * A state with nodes that stay (stars) would need a transition for nearly each code. Most of them
 * lead to the same place, the state of the staying nodes alone; that one is stored as the state's
 * `stay`, and a row holds only what differs from the row of `stay`:
 *
 *     next(state, code) = row(state)[code], else row(stay)[code], else stay, but dead on a dot
 */

import type { MatcherLimits } from '../limits.ts';
import { codeDot, codeEnd } from './alphabet.ts';
import { grown, IntSets } from './int-sets.ts';
import { type PatternTrie, staysAlways, staysNever, trieNone, trieRoot } from './pattern-trie.ts';

/** No state. */
export const stateNone = -1;

/** A deterministic automaton before packing; state 0 is where names start. */
export interface Dfa {
  readonly stateCount: number;
  /** Row of a state: edges[rowStarts[state]] up to edges[rowStarts[state + 1]]. */
  readonly rowStarts: Int32Array;
  readonly edgeCodes: Uint8Array;
  readonly edgeTargets: Int32Array;
  /** The state of the staying nodes alone, or `stateNone`. */
  readonly stay: Int32Array;
  /** Patterns that accept at a state: an id of `accepts`. Set 0 is empty. */
  readonly accept: Int32Array;
  readonly accepts: IntSets;
}

export type BuildResult =
  | { readonly ok: true; readonly dfa: Dfa }
  /** Over a budget. `blame` counts for each node of the trie the states that it is in. */
  | { readonly ok: false; readonly blame: Int32Array };

/** Builds the automaton of all patterns in `trie`; each accept set also holds `always`. `seed` keys its hash tables. */
export function buildDfa(
  trie: PatternTrie,
  always: readonly number[],
  limits: MatcherLimits,
  seed: number,
): BuildResult {
  const builder = new DfaBuilder(trie, always, limits, seed);
  return builder.run()
    ? { ok: true, dfa: builder.finish() }
    : { ok: false, blame: builder.blame() };
}

class DfaBuilder {
  readonly #trie: PatternTrie;
  readonly #always: readonly number[];
  readonly #limits: MatcherLimits;
  readonly #statesMax: number;
  readonly #sets: IntSets;
  readonly #accepts: IntSets;
  #rowStarts: Int32Array = new Int32Array(1024);
  #edgeCodes: Int32Array = new Int32Array(4096);
  #edgeTargets: Int32Array = new Int32Array(4096);
  #edgeCount = 0;
  #stay: Int32Array = new Int32Array(1024);
  #accept: Int32Array = new Int32Array(1024);
  #work = 0;
  /** Children of the nodes of the state in hand, for each code. */
  readonly #children: number[][] = Array.from({ length: codeEnd }, () => []);
  readonly #staying: number[] = [];
  readonly #stayingAlways: number[] = [];
  /** Codes for which a row has an edge. */
  readonly #isExplicit = new Uint8Array(codeEnd);
  #scratch: Int32Array = new Int32Array(1024);

  constructor(trie: PatternTrie, always: readonly number[], limits: MatcherLimits, seed: number) {
    this.#trie = trie;
    this.#always = always;
    this.#limits = limits;
    this.#sets = new IntSets(seed);
    this.#accepts = new IntSets(~seed);
    this.#statesMax = trie.nodeCount * limits.statesPerNode + limits.statesFree;
  }

  /** False if a budget ran out. */
  run(): boolean {
    this.#accepts.intern(this.#scratch, 0);
    this.#internClosed([trieRoot], []);
    const { setNodesMax, acceptMembersMax, setWorkMax } = this.#limits;
    for (let state = 0; state < this.#sets.count; state++) {
      if (this.#sets.count > this.#statesMax) return false;
      if (this.#sets.memberCount > setNodesMax) return false;
      if (this.#accepts.memberCount > acceptMembersMax) return false;
      if (this.#work > setWorkMax) return false;
      this.#expand(state);
    }
    return true;
  }

  finish(): Dfa {
    const stateCount = this.#sets.count;
    return {
      stateCount,
      rowStarts: this.#rowStarts.slice(0, stateCount + 1),
      edgeCodes: Uint8Array.from(this.#edgeCodes.subarray(0, this.#edgeCount)),
      edgeTargets: this.#edgeTargets.slice(0, this.#edgeCount),
      stay: this.#stay.slice(0, stateCount),
      accept: this.#accept.slice(0, stateCount),
      accepts: this.#accepts,
    };
  }

  blame(): Int32Array {
    const blame = new Int32Array(this.#trie.nodeCount);
    for (let i = 0; i < this.#sets.memberCount; i++) {
      const node = this.#sets.members[i]!;
      blame[node] = blame[node]! + 1;
    }
    return blame;
  }

  /** Computes row, stay and accept set of `state`; interns the states that it leads to. */
  #expand(state: number): void {
    if (state + 2 > this.#rowStarts.length) {
      this.#rowStarts = grown(this.#rowStarts, state + 2);
      this.#stay = grown(this.#stay, state + 2);
      this.#accept = grown(this.#accept, state + 2);
    }
    this.#accept[state] = this.#acceptSet(state);
    this.#gather(state);
    const size = this.#sets.starts[state + 1]! - this.#sets.starts[state]!;
    const isStaying = this.#staying.length === size && size > 0;
    if (this.#staying.length === 0) this.#stay[state] = stateNone;
    else this.#stay[state] = isStaying ? state : this.#internClosed(this.#staying, []);
    // Only the state of staying nodes alone says where their own edges lead.
    if (isStaying) this.#explainOwnEdges();
    for (let code = codeDot; code < codeEnd; code++) {
      if (this.#isExplicit[code] === 0) continue;
      const staying = code === codeDot ? this.#stayingAlways : this.#staying;
      this.#addEdge(code, this.#internClosed(this.#children[code]!, staying));
    }
    this.#rowStarts[state + 1] = this.#edgeCount;
  }

  #gather(state: number): void {
    const { firstChild, sibling, code, stays } = this.#trie;
    for (const list of this.#children) list.length = 0;
    this.#staying.length = 0;
    this.#stayingAlways.length = 0;
    this.#isExplicit.fill(0);
    const end = this.#sets.starts[state + 1]!;
    for (let i = this.#sets.starts[state]!; i < end; i++) {
      const node = this.#sets.members[i]!;
      const kind = stays[node]!;
      if (kind !== staysNever) this.#staying.push(node);
      if (kind === staysAlways) this.#stayingAlways.push(node);
      for (let child = firstChild[node]!; child !== trieNone; ) {
        this.#children[code[child]!]!.push(child);
        if (kind === staysNever) this.#isExplicit[code[child]!] = 1;
        child = sibling[child]!;
        this.#work++;
      }
    }
  }

  #explainOwnEdges(): void {
    for (let code = codeDot; code < codeEnd; code++) {
      if (this.#children[code]!.length > 0) this.#isExplicit[code] = 1;
    }
    if (this.#stayingAlways.length > 0) this.#isExplicit[codeDot] = 1;
  }

  /** The state of `nodes`, what they reach without reading, and `staying`. */
  #internClosed(nodes: readonly number[], staying: readonly number[]): number {
    const room = nodes.length * 3 + staying.length;
    if (room > this.#scratch.length) this.#scratch = new Int32Array(room * 2);
    const { star, deep } = this.#trie;
    const scratch = this.#scratch;
    let length = 0;
    for (const node of nodes) {
      scratch[length++] = node;
      if (star[node] !== trieNone) scratch[length++] = star[node]!;
      if (deep[node] !== trieNone) scratch[length++] = deep[node]!;
    }
    for (const node of staying) scratch[length++] = node;
    this.#work += length;
    return this.#sets.intern(scratch, sortUnique(scratch, length));
  }

  #acceptSet(state: number): number {
    const { firstPattern, nextPattern } = this.#trie;
    const patterns: number[] = [];
    const end = this.#sets.starts[state + 1]!;
    for (let i = this.#sets.starts[state]!; i < end; i++) {
      let pattern = firstPattern[this.#sets.members[i]!]!;
      for (; pattern !== trieNone; pattern = nextPattern[pattern]!) patterns.push(pattern);
    }
    this.#work += patterns.length;
    if (patterns.length === 0) return 0;
    const sorted = Int32Array.from([...patterns, ...this.#always]);
    return this.#accepts.intern(sorted, sortUnique(sorted, sorted.length));
  }

  #addEdge(code: number, target: number): void {
    if (this.#edgeCount === this.#edgeCodes.length) {
      this.#edgeCodes = grown(this.#edgeCodes, this.#edgeCount + 1);
      this.#edgeTargets = grown(this.#edgeTargets, this.#edgeCount + 1);
    }
    this.#edgeCodes[this.#edgeCount] = code;
    this.#edgeTargets[this.#edgeCount++] = target;
  }
}

/** Sorts the first `length` integers and drops repeats. The length that remains. */
function sortUnique(list: Int32Array, length: number): number {
  if (length > 32) list.subarray(0, length).sort();
  else insertionSort(list, length);
  let kept = 0;
  for (let i = 0; i < length; i++) {
    if (kept === 0 || list[kept - 1] !== list[i]) list[kept++] = list[i]!;
  }
  return kept;
}

function insertionSort(list: Int32Array, length: number): void {
  for (let i = 1; i < length; i++) {
    const value = list[i]!;
    let at = i;
    for (; at > 0 && list[at - 1]! > value; at--) list[at] = list[at - 1]!;
    list[at] = value;
  }
}
