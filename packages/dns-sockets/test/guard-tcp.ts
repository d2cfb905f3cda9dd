// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Run as the proxy's uid with its capabilities by listener.test.ts: a TCP listener whose guard lets in what the mark of a
 * packet on the loopback interface, 0, matches, then one whose guard does not, then the first again in its place.
 * Prints for each whether a connection is accepted.
 */

import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { localPort } from '../src/fd.ts';
import { createListener, guardListener } from '../src/listener.ts';

const common = { family: 4, protocol: 'tcp', port: 0, mark: 0, markMask: 0x40 } as const;
/** The SYN that is dropped is sent again after a second. */
const answerMs = 400;

async function isAccepted(port: number): Promise<boolean> {
  const client = connect(port, '127.0.0.1');
  const connected = new Promise<boolean>((resolve) => {
    client.once('connect', () => resolve(true));
    client.once('error', () => resolve(false));
  });
  const result = await Promise.race([connected, delay(answerMs, false)]);
  client.destroy();
  return result;
}

const open = createListener({ ...common, redirectMark: 0 });
const guarded = createListener({ ...common, redirectMark: 0x40 });
const results = [await isAccepted(localPort(open)), await isAccepted(localPort(guarded))];
guardListener(guarded, { markMask: 0x40, redirectMark: 0 });
results.push(await isAccepted(localPort(guarded)));
process.stdout.write(results.join(' '));
process.exit();
