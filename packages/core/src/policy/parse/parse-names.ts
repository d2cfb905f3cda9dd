// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * matchName and matchPattern of toFQDNs and rules.dns. Emptiness differs in meaning: an empty
 * toFQDNs selects no connection; `dns: []` is a redirect that permits
 * every name (Cilium GeneratePattern), while `dns: [{}]` permits none.
 */

import {
  type Pattern,
  type PatternContext,
  parseMatchName,
  parseMatchPattern,
} from '../../dns/pattern.ts';
import { at, type Fields, nameOf, readFields, readList, readText } from '../../k8s/shape.ts';
import { patternCharsMax } from '../../limits.ts';
import type { DnsNames } from '../model/rule.ts';
import type { ParseContext } from './parse-context.ts';

/** toFQDNs of an egress element; null when absent. */
export function parseFqdns(
  fields: Fields,
  path: string,
  context: ParseContext,
): readonly Pattern[] | null {
  if (fields['toFQDNs'] === undefined) return null;
  if (fields['toFQDNs'] === null) return [];
  return parseNameList(fields, 'toFQDNs', 'toFQDNs', path, context);
}

/** `dns` of the L7 rules at `path`. */
export function parseDnsNames(fields: Fields, path: string, context: ParseContext): DnsNames {
  const patterns = parseNameList(fields, 'dns', 'rules.dns', path, context);
  const isEmptyList = Array.isArray(fields['dns']) && fields['dns'].length === 0;
  const matchesAll = patterns.some(({ text }) => text === '*');
  return { patterns, matchAll: isEmptyList || matchesAll };
}

function parseNameList(
  fields: Fields,
  field: string,
  patternContext: PatternContext,
  path: string,
  context: ParseContext,
): readonly Pattern[] {
  const listPath = at(path, field);
  const list = context.take(readList(fields, field, path, context.errors), listPath);
  const byText = new Map<string, Pattern>();
  for (const [index, value] of list.entries()) {
    for (const pattern of parseItem(value, patternContext, `${listPath}[${index}]`, context)) {
      byText.set(pattern.text, pattern);
    }
  }
  return [...byText.values()];
}

function parseItem(
  value: unknown,
  patternContext: PatternContext,
  path: string,
  context: ParseContext,
): readonly Pattern[] {
  if (typeof value === 'string') {
    const item = `${value.includes('*') ? 'matchPattern' : 'matchName'}: ${JSON.stringify(value)}`;
    context.error(path, `is ${nameOf(value)}, but must be a mapping: write {${item}}`);
    return [];
  }
  const fields = readFields(value, path, context.errors);
  if (fields === null) return [];
  context.checkFields(fields, path, ['matchName', 'matchPattern'], {
    port: 'ports are in toPorts, beside the list of names',
    toPorts: 'it is beside the list of names',
  });
  const name =
    fields['matchName'] === null ? undefined : readText(fields, 'matchName', path, context.errors);
  const glob =
    fields['matchPattern'] === null
      ? undefined
      : readText(fields, 'matchPattern', path, context.errors);
  if (Object.keys(fields).length === 0) context.warn(path, 'names nothing, so it allows nothing');
  if (name !== undefined && glob !== undefined && patternContext === 'toFQDNs') {
    context.error(path, 'has both matchName and matchPattern: write an item for each');
  }
  const patterns: Pattern[] = [];
  const parsed = [
    {
      field: 'matchName',
      result: name === undefined ? null : parseMatchName(name, patternContext),
    },
    {
      field: 'matchPattern',
      result: glob === undefined ? null : parseMatchPattern(glob, patternContext),
    },
  ];
  for (const { field, result } of parsed) {
    if (result === null) continue;
    if (result.ok && hasEmptyLabel(result.value.text)) {
      const text = name ?? glob ?? '';
      const fix = /^\.[^.]/.test(text)
        ? `write matchPattern "*${text}" for the names below it`
        : 'remove a dot';
      context.warn(at(path, field), `has an empty label, so it matches nothing: ${fix}`);
    }
    if (!result.ok) context.error(at(path, field), result.error.message);
    else if (result.value.text.length <= patternCharsMax) patterns.push(result.value);
    else context.warn(at(path, field), 'is longer than any DNS name, so it matches nothing');
  }
  return patterns;
}

/** An API server refuses it. The root alone is a name. */
function hasEmptyLabel(text: string): boolean {
  return text !== '.' && /^\.|\.\./.test(text);
}
