// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The DNS server is slow, loses queries, is dead: no member can answer for it. */

import { setTimeout as delay } from 'node:timers/promises';
import type { RunContext } from '../run.ts';
import { usualDelayMs } from '../upstream.ts';
import type { Fault } from './fault.ts';

const slowDelayMs = 300;
const lossPerMille = 200;
const deadMs = 700;
const lossyMs = 1000;

async function lose(context: RunContext, perMille: number, ms: number): Promise<void> {
  const { upstream } = context.stage;
  await upstream.setLoss(perMille);
  await delay(ms);
  await upstream.setLoss(0);
  context.mark('upstream well');
}

const victims = ['upstream'];

export const upstreamFaults: readonly Fault[] = [
  {
    name: 'upstream slow',
    what: `answers take ${slowDelayMs} ms for a while`,
    victims,
    inject: async (context) => {
      const { upstream } = context.stage;
      await upstream.setDelay(slowDelayMs);
      await delay(lossyMs);
      await upstream.setDelay(usualDelayMs);
      context.mark('upstream well');
    },
  },
  {
    name: 'upstream lossy',
    what: `${lossPerMille / 10} % of the queries get no answer for a while`,
    victims,
    inject: (context) => lose(context, lossPerMille, lossyMs),
  },
  {
    name: 'upstream dead',
    what: `no query gets an answer for ${deadMs} ms`,
    victims,
    inject: (context) => lose(context, 1000, deadMs),
  },
];
