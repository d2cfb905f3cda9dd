// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type StaleSocket, type WayAgain, wayAgain } from './way-again.ts';

const redirected: StaleSocket = {
  ...{ isDirect: false, isDropped: false, hasFailed: false },
  ...{ answeredMs: 0, silentSinceMs: 500 },
};
const answered = { ...redirected, answeredMs: 400 };
const dropped = { ...redirected, isDropped: true, hasFailed: true };
const direct = { ...redirected, isDirect: true };

const rows: readonly (readonly [
  string,
  number,
  StaleSocket | undefined,
  number | null,
  WayAgain,
])[] = [
  ['a server that never answered', 0, redirected, null, 'any'],
  ['a server that never answered, dropped', 0, dropped, null, 'any'],
  ['silent, subject to redirects', 600, redirected, 600, 'direct'],
  ['failed, subject to redirects', 600, { ...answered, hasFailed: true }, 600, 'direct'],
  ['dropped after answers: a redirect', 600, { ...dropped, answeredMs: 400 }, 600, 'direct'],
  ['new and dropped, no other answered', 600, dropped, null, 'direct'],
  ['new and dropped, another answered: no room in conntrack', 600, dropped, 400, 'answered'],
  ['past redirects, silent, another answered since', 600, direct, 600, 'answered'],
  ['past redirects, silent, as the others are', 600, direct, 500, 'any'],
  ['past redirects and failed', 600, { ...direct, hasFailed: true }, 400, 'answered'],
  [
    'past redirects and failed, no other answered',
    600,
    { ...direct, hasFailed: true },
    null,
    'any',
  ],
  ['closed by now, another answered', 600, undefined, 600, 'answered'],
  ['closed by now, none answered', 600, undefined, null, 'any'],
];

for (const [name, serverAnsweredMs, stale, provenMs, way] of rows) {
  test(`${name}: ${way}`, () => {
    const proven = provenMs === null ? undefined : { answeredMs: provenMs };
    assert.equal(wayAgain(serverAnsweredMs, stale, proven), way);
  });
}
