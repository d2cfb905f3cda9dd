// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Rolling upgrades: each process is told to end and started again, one after the other, under load. */

import assert from 'node:assert/strict';
import { askDns } from '@tandem/testing/dns-query';
import { type ChaosOptions, equal, nothingWrong, type Outcome, type Part, total } from '../part.ts';
import { type RunContext, run } from '../run.ts';
import { processes, Stage } from '../stage.ts';
import { upstreamAddress } from '../upstream.ts';

const rate = 500;
const roundsByTier = { short: 1, usual: 3, full: 20 } as const;
/** At most, for one process. */
const secondsPerRestart = 15;

async function runUpgrades(options: ChaosOptions): Promise<Outcome> {
  const { seed, tier, progress } = options;
  const rounds = options.rounds ?? roundsByTier[tier];
  await using stage = await Stage.start({ seed, purpose: 'upgrade' });
  const web = await askDns(stage.client, { server: upstreamAddress, name: 'n-1.allowed.test' });
  const to = web.addresses[0];
  assert.ok(to !== undefined, 'the web server has an address');
  // Open from before the first upgrade until after the last.
  const open = await stage.client.connect({ to, port: 80, data: 'x', want: 1 });
  let exchanges = 0;
  const upgradeAll = async (context: RunContext): Promise<void> => {
    for (let round = 1; round <= rounds; round++) {
      progress(`${round} of ${rounds}`);
      for (const name of processes) {
        context.mark(`${name} SIGTERM`);
        stage.tandem.signal(name, 'SIGTERM');
        await stage.ended(name);
        await open.exchange({ data: 'y', want: 1 });
        context.restarted(await stage.restart(name));
        await open.exchange({ data: 'z', want: 1 });
        exchanges += 2;
      }
    }
  };
  const result = await run(stage, {
    fault: 'rolling upgrade',
    victim: 'both',
    round: 1,
    rate,
    seconds: rounds * processes.length * secondsPerRestart,
    untilDone: true,
    faultAtMs: 500,
    inject: upgradeAll,
  });
  const runs = [result];
  return {
    runs,
    bounds: [
      ...nothingWrong(runs),
      equal('later than 1 s', total(runs, 'late'), 0),
      equal('exchanges on the connection open since the start', exchanges, rounds * 4),
    ],
  };
}

export const upgrade: Part = {
  name: 'upgrade',
  what: 'rolling upgrades of both processes, one after the other, under 500 queries a second',
  run: runUpgrades,
};
