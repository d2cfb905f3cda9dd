// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * No fault of one process costs a query: every part of `./run chaos` once and short, with a fixed seed.
 * Each bound of a part is asserted; what it saw is printed.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parts } from './catalogue.ts';
import { runPart } from './part.ts';
import { textOf } from './report.ts';

const seed = 1;

for (const part of parts) {
  test(`${part.name}: ${part.what}`, async () => {
    const result = await runPart(part, { seed, tier: 'short', progress: () => undefined });
    const text = textOf(result);
    console.log(text);
    const broken = result.bounds.filter(({ isHeld }) => !isHeld).map(({ what }) => what);
    assert.deepEqual(broken, [], text);
  });
}
