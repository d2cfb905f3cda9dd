// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Answer of Node.js for a name, by `lookup` or `resolve4`: milliseconds, then its addresses or "-" and the error. */

import { lookup, resolve4 } from 'node:dns/promises';

const [how, name = ''] = process.argv.slice(2);
const before = performance.now();
const text = await ask().then(
  (addresses) => addresses.join(' '),
  (error: NodeJS.ErrnoException) => `- ${error.code}`,
);
console.log(`${Math.round(performance.now() - before)} ${text}`);

async function ask(): Promise<string[]> {
  if (how === 'resolve4') return resolve4(name);
  return (await lookup(name, { all: true })).map(({ address }) => address);
}
