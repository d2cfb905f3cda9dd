// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Reporter of node:test that appends failures alone to the file TANDEM_TEST_FAILURES: file, name, error with its causes.
 * scripts/test.sh shows them after all groups, so that the end of a long log says what failed.
 */

import { appendFileSync } from 'node:fs';
import { relative } from 'node:path';
import type { TestEvent } from 'node:test/reporters';
import { inspect } from 'node:util';

/** Characters of one error that are shown; the whole one stands where the test ran. */
const errorMax = 4000;

// oxlint-disable-next-line import/no-default-export -- what node takes of a reporter
export default async function* failures(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const path = process.env['TANDEM_TEST_FAILURES'];
  for await (const event of source) {
    if (event.type !== 'test:fail' || path === undefined) continue;
    const { name, file, details } = event.data;
    // The tests that make a suite fail are reported themselves.
    if ('failureType' in details.error && details.error.failureType === 'subtestsFailed') continue;
    const where = file === undefined ? '' : `${relative(process.cwd(), file)}: `;
    const text = inspect(details.error.cause ?? details.error, { depth: 4 })
      .replaceAll(/^ +at .*node:internal.*\n/gm, '')
      .slice(0, errorMax);
    appendFileSync(path, `✖ ${where}${name}\n  ${text.replaceAll('\n', '\n  ')}\n`);
  }
  yield '';
}
