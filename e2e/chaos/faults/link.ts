// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The gRPC connection between the two processes is cut, or slow. Names must meet again afterwards. */

import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { askDns } from '@tandem/testing/dns-query';
import { waitFor } from '@tandem/testing/wait';
import { listFqdn } from '../../kit/admin.ts';
import { processes, type Stage } from '../stage.ts';
import { upstreamAddress } from '../upstream.ts';
import type { Fault } from './fault.ts';
import { GrpcRelay } from './grpc-relay.ts';

const faultMs = 1000;
const slowMs = 200;
const meetWithinMs = 10_000;
const relays = new WeakMap<Stage, GrpcRelay>();

/** The proxy connects again, through the relay. */
async function interpose(stage: Stage): Promise<AsyncDisposable> {
  const { tandem } = stage;
  const relay = await GrpcRelay.start(join(tandem.runDirectory, 'agent-sync.sock'));
  try {
    tandem.signal('proxy', 'SIGTERM');
    await stage.ended('proxy');
    await stage.restart('proxy');
    await waitFor(() => relay.connections > 0, { what: 'the proxy to connect' });
    await stage.settle();
  } catch (error) {
    await relay[Symbol.asyncDispose]();
    throw error;
  }
  relays.set(stage, relay);
  return relay;
}

/** A name that one member learns now is known to both in time. */
async function checkMeeting(stage: Stage): Promise<void> {
  const question = stage.names.take(100).find(({ kind }) => kind === 'fresh');
  if (question === undefined) throw new RangeError('no fresh name of a hundred');
  await askDns(stage.client, { server: upstreamAddress, name: question.name });
  const isKnown = async (): Promise<boolean> => {
    const lists = await Promise.all(processes.map((name) => listFqdn(stage.tandem, name)));
    return lists.every((list) => list.some((entry) => entry.endsWith(` ${question.address}`)));
  };
  await waitFor(isKnown, { what: 'both to know a new name', timeoutMs: meetWithinMs });
}

function linkFault(name: string, what: string, harm: (relay: GrpcRelay) => void): Fault {
  return {
    name,
    what,
    victims: ['gRPC'],
    prepare: interpose,
    inject: async (context) => {
      const relay = relays.get(context.stage);
      if (relay === undefined) throw new Error('nothing stands between the processes');
      harm(relay);
      await delay(faultMs);
      relay.heal();
      context.mark('healed');
    },
    check: checkMeeting,
  };
}

export const linkFaults: readonly Fault[] = [
  linkFault('gRPC cut', `cut and refused for ${faultMs} ms`, (relay) => relay.cut()),
  linkFault('gRPC slow', `each piece waits ${slowMs} ms for ${faultMs} ms`, (relay) =>
    relay.slow(slowMs),
  ),
];
