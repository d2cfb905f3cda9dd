// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * matchName and matchPattern of CiliumNetworkPolicy, in one canonical form with Cilium's exact
 * meaning. A pattern is lower-case, ends in a dot, and has stars in two forms: "**." at its start
 * only, one or more whole labels, and "*" elsewhere, zero or more characters of one label. The bare
 * star is a pattern of its own and depends on where it stands.
 *
 * Source: Cilium pkg/fqdn/matchpattern, pkg/policy/api/fqdn.go, PortRuleDNS.
 */

import { patternCharsMax } from '../limits.ts';
import { err, ok, type Result } from '../result.ts';

/**
 * Where a pattern stands. It matters for the bare star alone: in toFQDNs it matches names of ordinary
 * characters and the root, in rules.dns any name at all.
 */
export type PatternContext = 'toFQDNs' | 'rules.dns';

export interface Pattern {
  /** Canonical text: "example.com.", "*.example.com.", "**.example.com.", ".", or the bare "*". */
  readonly text: string;
  readonly context: PatternContext;
}

export type PatternErrorCode = 'empty' | 'too-long' | 'bad-character';

export interface PatternError {
  readonly code: PatternErrorCode;
  /** One sentence for the author of the policy. */
  readonly message: string;
}

/** The canonical text of a bare star. */
export const bareStar = '*';

const nameCharacters = /^[-a-zA-Z0-9_.]+$/;
const patternCharacters = /^[-a-zA-Z0-9_.*]+$/;

/** A matchName. It is the pattern without stars that matches this name alone. */
export function parseMatchName(
  text: string,
  context: PatternContext,
): Result<Pattern, PatternError> {
  const error = validate('matchName', text, nameCharacters, 'letters, digits, "-", "_" and "."');
  return error === null ? ok({ text: canonical(text), context }) : err(error);
}

/** A matchPattern. */
export function parseMatchPattern(
  text: string,
  context: PatternContext,
): Result<Pattern, PatternError> {
  const allowed = 'letters, digits, "-", "_", "." and "*"';
  const error = validate('matchPattern', text, patternCharacters, allowed);
  return error === null ? ok({ text: canonical(text), context }) : err(error);
}

/**
 * A pattern from its canonical text, as a snapshot holds it. Null if the text is not canonical: it was
 * not written by us.
 */
export function patternFromCanonical(text: string, context: PatternContext): Pattern | null {
  const pattern = parseMatchPattern(text, context);
  return pattern.ok && pattern.value.text === text ? pattern.value : null;
}

function validate(
  field: string,
  text: string,
  characters: RegExp,
  allowed: string,
): PatternError | null {
  if (text.length === 0) return { code: 'empty', message: `${field} is empty: give a DNS name` };
  if (text.length > patternCharsMax) {
    const message = `${field} has ${text.length} characters, at most ${patternCharsMax} are possible`;
    return { code: 'too-long', message };
  }
  if (!characters.test(text)) {
    const message = `${field} ${JSON.stringify(text)} may hold only ${allowed}${adviceOn(field, text)}`;
    return { code: 'bad-character', message };
  }
  return null;
}

/** Advice for texts that are often written in place of a name. */
function adviceOn(field: string, text: string): string {
  if (text.includes('://') || text.includes('/')) return ': write the name of the host alone';
  if (/:\d*$/.test(text)) return ': write the name alone, and the port in toPorts';
  if (field === 'matchName' && patternCharacters.test(text)) return ': use matchPattern for "*"';
  // oxlint-disable-next-line no-control-regex -- everything but ASCII
  if (/[^\x00-\x7f]/.test(text)) return ': write its ASCII form, whose labels begin with "xn--"';
  return /[\\^$+[(|]/.test(text) ? ': it is no regular expression' : '';
}

function canonical(text: string): string {
  const lower = text.toLowerCase();
  if (/^\*+\.?$/.test(lower)) return bareStar;
  const absolute = lower.endsWith('.') ? lower : `${lower}.`;
  const prefix = /^\*\*+\./.exec(absolute);
  if (prefix === null) return absolute.replace(/\*+/g, '*');
  return `**.${absolute.slice(prefix[0].length).replace(/\*+/g, '*')}`;
}
