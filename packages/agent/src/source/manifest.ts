// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A manifest of Kubernetes objects, read alike by the agent and by `tandem policy validate`, as kubectl reads it. */

import {
  type Document,
  isAlias,
  isCollection,
  isMap,
  isNode,
  isScalar,
  type LineCounter,
  type Node,
  parseAllDocuments,
  type Tags,
  visit,
  YAMLParseError,
} from 'yaml';

/** Enough for the anchors that people write, too few for a bomb of them. */
export const aliasesMax = 100;
/** Nodes of a document inside each other. Objects have less than 100; what reads and compares them recurses. */
export const depthMax = 512;

/** Whether a directory's file is read. Hidden ones are what editors and kubelets leave. */
export function isManifest(fileName: string): boolean {
  return /\.(ya?ml|json)$/.test(fileName) && !fileName.startsWith('.');
}

/** The text of a file's bytes. Windows' shells write UTF-16, and a mark of the byte order before it. */
export function decodeManifest(bytes: Uint8Array): string {
  const mark = ((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0);
  const encoding = mark === 0xfffe ? 'utf-16le' : mark === 0xfeff ? 'utf-16be' : 'utf-8';
  return new TextDecoder(encoding).decode(bytes);
}

/** Types of YAML 1.1 that Go's parser takes for texts: times, numbers in base 60 and collections beyond JSON's. */
const textTypes: ReadonlySet<string> = new Set(
  ['timestamp', 'omap', 'pairs', 'set', 'binary'].map((name) => `tag:yaml.org,2002:${name}`),
);

/**
 * The documents of a file, in YAML 1.1 as kubectl reads it: `yes` is true, 0120 is 80, and `<<` merges. What means one thing
 * to the cluster must not mean another one here.
 */
export function parseManifest(text: string, lineCounter: LineCounter): readonly Document.Parsed[] {
  const isJson = (tag: Tags[number]): boolean =>
    typeof tag === 'string' ||
    !(textTypes.has(tag.tag) || ('format' in tag && tag.format === 'TIME'));
  const documents = parseAllDocuments(text.replaceAll(laterMark, '$1'), {
    // Keys that are given twice are found below: the parser compares each key with each other one.
    ...{ lineCounter, version: '1.1', uniqueKeys: false },
    customTags: (tags) => tags.filter(isJson),
  });
  for (const document of documents) refuseUnreadable(document);
  return documents;
}

/**
 * Refuses values that the parser accepts and no text can hold: a key that is a collection, as `name: {{ .Values.name }}` has
 * one, an alias without its anchor, as an unquoted `*.example.com` is, a key that is given twice, and more levels than
 * what reads it has stack.
 */
function refuseUnreadable(document: Document.Parsed): void {
  const anchors = new Set<string>();
  const refuse = (node: Node, message: string): void => {
    const [start = 0, end = 0] = node.range ?? [];
    document.errors.push(new YAMLParseError([start, end], 'IMPOSSIBLE', message));
  };
  visit(document, {
    Node: (_, node, path) => {
      if (path.length > depthMax) {
        refuse(node, tooDeep);
        return visit.BREAK;
      }
      if (isAlias(node)) {
        const advice = 'is an alias without its anchor: a text that begins with * needs quotes';
        if (!anchors.has(node.source)) refuse(node, `*${node.source} ${advice}`);
      } else if (node.anchor !== undefined) anchors.add(node.anchor);
      if (isMap(node)) refuseKeys(node.items, refuse);
      return undefined;
    },
  });
  document.errors.sort((left, right) => left.pos[0] - right.pos[0]);
}

const tooDeep = 'it is nested too deeply';

function refuseKeys(
  items: readonly { readonly key: unknown }[],
  refuse: (node: Node, message: string) => void,
): void {
  const keys = new Set<unknown>();
  for (const { key } of items) {
    if (isCollection(key)) refuse(key, 'A key must be a text');
    if (!isScalar(key)) continue;
    if (keys.has(key.value)) refuse(key, 'Map keys must be unique');
    keys.add(key.value);
  }
}

/** A mark of the byte order at the head of a document that is not the first: files that were joined. */
const laterMark = /^(---[^\n]*\n)\uFEFF/gm;

/** Why a document is no YAML, without the place. */
export function yamlProblem({ message }: Error): string {
  const [first = ''] = message.split('\n');
  if (first.startsWith('Maximum call stack')) return tooDeep;
  return first.replace(/ at line \d+, column \d+:?$/, '');
}

export interface DocumentItem {
  readonly raw: unknown;
  /** Steps to it in its document; none: it is the document. */
  readonly path: readonly (string | number)[];
}

/**
 * The objects of one document. A list is taken apart, once if aliases name it several times or it holds itself. To kubectl
 * whatever has `items` is a list: under a kind that is not called so the object itself counts too.
 */
export function itemsOf(document: unknown): readonly DocumentItem[] {
  return itemsBelow({ raw: document, path: [] }, new Set());
}

function itemsBelow(item: DocumentItem, opened: Set<unknown>): readonly DocumentItem[] {
  const { raw, path } = item;
  if (typeof raw !== 'object' || raw === null) return [item];
  const { apiVersion, kind, items } = raw as Readonly<Record<string, unknown>>;
  const name = typeof kind === 'string' ? kind : '';
  const isList = /list$/i.test(name);
  if (isList && items === null) return [];
  if (!Array.isArray(items)) return [item];
  const own = isList ? [] : [item];
  if (opened.has(items)) return own;
  opened.add(items);
  const type = { apiVersion, kind: isList ? name.slice(0, -'List'.length) : '' };
  const below = items.flatMap((each: unknown, index) =>
    itemsBelow({ raw: typed(each, type), path: [...path, 'items', index] }, opened),
  );
  return [...own, ...below];
}

/** Items of the API server's own lists, as NetworkPolicyList, have the list's type and do not repeat it. */
function typed(
  item: unknown,
  type: { readonly apiVersion: unknown; readonly kind: string },
): unknown {
  if (typeof item !== 'object' || item === null || Array.isArray(item) || type.kind === '')
    return item;
  return 'apiVersion' in item || 'kind' in item ? item : { ...type, ...item };
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
