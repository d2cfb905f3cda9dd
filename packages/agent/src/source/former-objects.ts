// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Objects of a file while one of its documents is no YAML: the other documents as they are, and the former objects of that
 * one.
 */

import { isFields } from '@tandem/core/k8s/shape';
import type { SourceObject } from './read-documents.ts';

/**
 * The readable objects, then objects from `before` that are missing now: they may stand in the damaged document. A damaged
 * object that was there before stays as it was. A damaged object with another name is taken for a new one only if nothing is
 * missing: a text that was cut short has lost the end of a name, too.
 */
export function keepFormer(
  before: readonly SourceObject[],
  read: readonly SourceObject[],
): readonly SourceObject[] {
  const readable = read.filter(({ damage }) => damage === null);
  const current = new Set(readable.map(identityOf));
  const former = before.filter((each) => each.damage === null && !current.has(identityOf(each)));
  const damaged = read.filter((each) => each.damage !== null && isObject(each));
  const found = new Set(damaged.map(identityOf));
  if (former.some((each) => !found.has(identityOf(each)))) return [...readable, ...former];
  const known = new Set([...current, ...former.map(identityOf)]);
  return [...readable, ...former, ...damaged.filter((each) => !known.has(identityOf(each)))];
}

/** Whether an object was recovered; the file is named in any case. */
function isObject({ raw }: SourceObject): boolean {
  if (!isFields(raw)) return false;
  const { kind, spec, specs } = raw;
  return (typeof kind === 'string' && kind !== '') || spec !== undefined || specs !== undefined;
}

function identityOf({ raw, document }: SourceObject): string {
  if (!isFields(raw)) return `document ${document}`;
  const { kind, metadata } = raw;
  const { namespace, name } = isFields(metadata) ? metadata : {};
  if (typeof name !== 'string') return `document ${document}`;
  return JSON.stringify([kind, namespace ?? '', name]);
}
