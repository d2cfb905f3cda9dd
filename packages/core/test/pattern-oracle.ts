// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The meaning of matchName and matchPattern, written down a second time from Cilium's rules as regular
 * expressions (pkg/fqdn/matchpattern), to test the matcher against. Only tests may use it: an expression
 * from a policy can take exponential time.
 */

/** The expression of a pattern in toFQDNs, before canonicalisation. */
export function anchoredExpression(pattern: string): RegExp {
  const text = sanitize(pattern);
  if (/^\*+\.?$/.test(text)) return /(^([-a-zA-Z0-9_]+[.])+$)|(^[.]$)/;
  const prefix = /^\*{2,}\./.exec(text)?.[0] ?? '';
  const rest = text.slice(prefix.length);
  const body = rest.replace(/\./g, '[.]').replace(/\*+/g, '[-a-zA-Z0-9_]*');
  const head = prefix === '' ? '' : '([-a-zA-Z0-9_]+([.][-a-zA-Z0-9_]+){0,})[.]';
  return new RegExp(`^${head}${body}$`);
}

/** Whether `pattern` matches the name in presentation form with its final dot. */
export function oracleMatches(pattern: string, nameText: string, isRulesDns: boolean): boolean {
  if (isRulesDns && /^\*+\.?$/.test(sanitize(pattern))) return true;
  return anchoredExpression(pattern).test(nameText.toLowerCase());
}

function sanitize(pattern: string): string {
  const text = pattern.trim().toLowerCase();
  return /^\*+$/.test(text) || text.endsWith('.') ? text : `${text}.`;
}
