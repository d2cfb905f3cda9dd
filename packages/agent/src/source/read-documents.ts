// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The objects of a YAML file. A document that is no YAML costs itself alone: it is read as far as the
 * parser recovers, so that a policy in it is known by name and its pods are held, and the documents beside it
 * count. What the parser had to choose (a key that is given twice, an alias) is replaced by what no field takes.
 */

import { type Document, isCollection, isScalar, LineCounter, visit } from 'yaml';
import { aliasesMax, depthMax, itemsOf, lineOf, parseManifest, yamlProblem } from './manifest.ts';

/** One object as it stands in a file. */
export interface SourceObject {
  readonly file: string;
  /** Position among the file's documents, from 1. */
  readonly document: number;
  /** Where it begins, from 1; 0: it stands in no file. */
  readonly line: number;
  readonly raw: unknown;
  /** Why its document is no YAML, so that `raw` is only what could be recovered; null when it is. */
  readonly damage: string | null;
}

/** Every field refuses it: a list where texts and mappings stand, with a text where mappings do. */
const unclear: readonly string[] = ['unclear'];

/** All documents of a file. Lists are taken apart. */
export function readDocuments(file: string, text: string): readonly SourceObject[] {
  const objects: SourceObject[] = [];
  const lineCounter = new LineCounter();
  for (const [index, document] of parseManifest(text, lineCounter).entries()) {
    const { raw, damage } = readDocument(document, lineCounter);
    if (damage === null && (raw === null || raw === undefined)) continue;
    for (const item of itemsOf(raw)) {
      const line = lineOf(document, lineCounter, item.path);
      objects.push({ file, document: index + 1, line, raw: item.raw, damage });
    }
  }
  return objects;
}

function readDocument(
  document: Document.Parsed,
  lineCounter: LineCounter,
): Pick<SourceObject, 'raw' | 'damage'> {
  const [error] = document.errors;
  if (error === undefined) {
    try {
      return { raw: document.toJS({ maxAliasCount: aliasesMax }), damage: null };
    } catch (thrown) {
      return { raw: recover(document), damage: yamlProblem(thrown as Error) };
    }
  }
  const { line } = lineCounter.linePos(error.pos[0]);
  // The parser says where in the document's stream; the line is that of the file.
  return { raw: recover(document), damage: `line ${line} is no YAML: ${yamlProblem(error)}` };
}

/** Value that the parser made of the document, without its own choices. */
function recover(document: Document.Parsed): unknown {
  try {
    visit(document, {
      Alias: () => document.createNode(unclear),
      Seq: (_, __, path) => (path.length > depthMax ? document.createNode('unclear') : undefined),
      Map: (_, { items }, path) => {
        if (path.length > depthMax) return document.createNode('unclear');
        const counts = new Map<unknown, number>();
        const nameOf = ({ key }: { readonly key: unknown }): unknown =>
          isScalar(key) ? key.value : key;
        for (const pair of items) counts.set(nameOf(pair), (counts.get(nameOf(pair)) ?? 0) + 1);
        for (const pair of items) {
          if (isCollection(pair.key)) pair.key = document.createNode('unclear');
          if ((counts.get(nameOf(pair)) ?? 0) > 1) pair.value = document.createNode(unclear);
        }
        return undefined;
      },
    });
    return document.toJS();
  } catch {
    return null;
  }
}
