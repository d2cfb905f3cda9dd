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

/** Characters that XML 1.0 does not have are left out. */
function escape(text: string): string {
  return (
    text
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is left out
      .replaceAll(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|[\ud800-\udfff]/g, '')
      .replaceAll('&', '&amp;')
      .replaceAll('<', '&lt;')
      .replaceAll('>', '&gt;')
      .replaceAll('"', '&quot;')
      .replaceAll('\n', '&#10;')
  );
}
