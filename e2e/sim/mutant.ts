// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Runs schedules over a product with one line broken, until one fails. A child process of its own: modules
 * are changed as they are loaded. Arguments: the number of the mutation, how many seeds, and the
 * first of them.
 */

import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';
import { mutations } from './mutations.ts';

const [, , which = '0', seeds = '0', from = '0'] = process.argv;
const mutation = mutations[Number(which)];
if (mutation === undefined) throw new TypeError(`there is no mutation ${which}`);
const root = fileURLToPath(new URL('../..', import.meta.url));
let isApplied = false;

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context);
    if (!url.startsWith('file:') || fileURLToPath(url) !== `${root}${mutation.file}`) return loaded;
    const source = Buffer.from(loaded.source as Uint8Array).toString();
    if (source.split(mutation.find).length !== 2) {
      throw new TypeError(`'${mutation.find}' is not once in ${mutation.file}`);
    }
    isApplied = true;
    return { ...loaded, source: source.replace(mutation.find, () => mutation.replace) };
  },
});

const { runSeeds } = await import('./run.ts');
const { stepsDefault } = await import('./sizes.ts');
const { schedules, failures } = runSeeds(
  Number(from),
  Number(from) + Number(seeds),
  stepsDefault,
  true,
);
console.log(JSON.stringify({ isApplied, schedules, failure: failures[0] ?? null }));
