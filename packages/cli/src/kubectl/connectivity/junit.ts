// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Results as JUnit XML, which CI systems read. */

import type { CheckResult } from './checks.ts';

export function junit(results: readonly CheckResult[]): string {
  const failures = results.filter(({ outcome }) => outcome === 'FAIL').length;
  const skipped = results.filter(({ outcome }) => outcome === 'SKIP').length;
  const seconds = results.reduce((sum, each) => sum + each.ms, 0) / 1000;
  const cases = results.map(({ name, outcome, seen, ms }) => {
    const head = `    <testcase classname="tandem.connectivity" name="${escape(name)}" time="${(ms / 1000).toFixed(3)}"`;
    if (outcome === 'PASS') return `${head}/>`;
    const kind = outcome === 'FAIL' ? 'failure' : 'skipped';
    return `${head}>\n      <${kind} message="${escape(seen)}"/>\n    </testcase>`;
  });
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    '<testsuites>',
    `  <testsuite name="tandem connectivity" tests="${results.length}" failures="${failures}" skipped="${skipped}" time="${seconds.toFixed(3)}">`,
    ...cases,
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}

function escape(text: string): string {
  return Array.from(text.toWellFormed(), xmlOf).join('');
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  '\n': '&#10;',
};

/** Characters that XML 1.0 does not have are left out. */
function xmlOf(character: string): string {
  if (character < ' ' && !'\t\n\r'.includes(character)) return '';
  if (character === '\ufffe' || character === '\uffff') return '';
  return entities[character] ?? character;
}
