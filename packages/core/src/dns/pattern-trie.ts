// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Patterns as one tree over their reversed tokens: the nondeterministic automaton from which the
 * merged one is built. A star or a deep star is a node that is reached without reading (epsilon) and
 * stays while it reads what it stands for.
 *
 *     *.a.b   ->  root -b-> 1 -.-> 2 -a-> 3 -.-> 4 ~*~> 5 (stays within a label, accepts)
 */

import { grown } from './int-sets.ts';
import { tokenDeep, tokenStar } from './pattern-tokens.ts';

export const trieRoot = 0;
/** No node. */
export const trieNone = -1;

export const staysNever = 0;
/** Stays on every code but the dot. */
export const staysInLabel = 1;
/** Stays on every code. */
export const staysAlways = 2;

const initialNodes = 1024;

export class PatternTrie {
  nodeCount = 1;
  /** First child, next sibling, and the code that leads to a node. */
  firstChild: Int32Array = new Int32Array(initialNodes).fill(trieNone);
  sibling: Int32Array = new Int32Array(initialNodes).fill(trieNone);
  code: Int32Array = new Int32Array(initialNodes);
  /** The nodes that are reached without reading. */
  star: Int32Array = new Int32Array(initialNodes).fill(trieNone);
  deep: Int32Array = new Int32Array(initialNodes).fill(trieNone);
  /** `staysNever`, `staysInLabel` or `staysAlways`. */
  stays: Int32Array = new Int32Array(initialNodes);
  /** Patterns that end at a node: a list through `nextPattern`. */
  firstPattern: Int32Array = new Int32Array(initialNodes).fill(trieNone);
  readonly nextPattern: Int32Array;

  readonly #nodesMax: number;

  /** Pattern indices are below `patternCount`. */
  constructor(patternCount: number, nodesMax: number) {
    this.#nodesMax = nodesMax;
    this.nextPattern = new Int32Array(patternCount).fill(trieNone);
  }

  /** Adds a pattern. False, and nothing is added, if the tree could grow beyond its limit. */
  add(tokens: Uint8Array, pattern: number): boolean {
    if (this.nodeCount + tokens.length > this.#nodesMax) return false;
    this.#reserve(this.nodeCount + tokens.length);
    let node = trieRoot;
    for (const token of tokens) node = this.#child(node, token) ?? this.#addChild(node, token);
    this.nextPattern[pattern] = this.firstPattern[node]!;
    this.firstPattern[node] = pattern;
    return true;
  }

  /** Calls `visit` with the nodes of a pattern that was added, without the root. */
  walk(tokens: Uint8Array, visit: (node: number) => void): void {
    let node = trieRoot;
    for (const token of tokens) {
      node = this.#child(node, token) ?? trieNone;
      visit(node);
    }
  }

  #child(node: number, token: number): number | undefined {
    if (token === tokenStar) return existing(this.star[node]!);
    if (token === tokenDeep) return existing(this.deep[node]!);
    let child = this.firstChild[node]!;
    while (child !== trieNone && this.code[child] !== token) child = this.sibling[child]!;
    return existing(child);
  }

  #addChild(node: number, token: number): number {
    const child = this.nodeCount++;
    if (token === tokenStar) {
      this.star[node] = child;
      this.stays[child] = staysInLabel;
    } else if (token === tokenDeep) {
      this.deep[node] = child;
      this.stays[child] = staysAlways;
    } else {
      this.code[child] = token;
      this.sibling[child] = this.firstChild[node]!;
      this.firstChild[node] = child;
    }
    return child;
  }

  #reserve(nodes: number): void {
    const used = this.firstChild.length;
    if (nodes <= used) return;
    this.firstChild = grown(this.firstChild, nodes).fill(trieNone, used);
    this.sibling = grown(this.sibling, nodes).fill(trieNone, used);
    this.star = grown(this.star, nodes).fill(trieNone, used);
    this.deep = grown(this.deep, nodes).fill(trieNone, used);
    this.firstPattern = grown(this.firstPattern, nodes).fill(trieNone, used);
    this.code = grown(this.code, nodes);
    this.stays = grown(this.stays, nodes);
  }
}

function existing(node: number): number | undefined {
  return node === trieNone ? undefined : node;
}
