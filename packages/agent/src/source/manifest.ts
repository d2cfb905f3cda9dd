// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What a manifest of Kubernetes objects is, to the agent and to `tandem policy validate` alike. */

import { type Document, isNode, type LineCounter } from 'yaml';

/** Enough for the anchors that people write, too few for a bomb of them. */
export const aliasesMax = 100;

/** Whether a directory's file is read. Hidden ones are what editors and kubelets leave. */
export function isManifest(fileName: string): boolean {
  return /\.ya?ml$/.test(fileName) && !fileName.startsWith('.');
}

/** The objects of one document: a list is taken apart. */
export function itemsOf(document: unknown): readonly unknown[] {
  if (typeof document === 'object' && document !== null && 'kind' in document) {
    const { kind, items } = document as { kind: unknown; items?: unknown };
    if (typeof kind === 'string' && kind.endsWith('List') && Array.isArray(items)) return items;
  }
  return [document];
}

/** The line of the deepest node of the path that exists: a missing field is named at what should hold it. */
export function lineOf(
  document: Document.Parsed,
  lineCounter: LineCounter,
  steps: readonly (string | number)[],
): number {
  for (let length = steps.length; length >= 0; length--) {
    const node: unknown = document.getIn(steps.slice(0, length), true);
    const start = isNode(node) ? node.range?.[0] : undefined;
    if (start !== undefined) return lineCounter.linePos(start).line;
  }
  return 0;
}
