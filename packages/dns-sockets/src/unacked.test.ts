// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Packets of a connection that a member has closed, which the kernel still sends to the pod; in namespaces. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { NamespacePair, portP, serviceAddress } from '../test/namespace-pair.ts';

const unackedMs = 1500;

/** Asks, and reads nothing. */
const deafClient = `
  const socket = require('node:net').connect(${portP}, '${serviceAddress[4]}', () => socket.write('question'));
  socket.pause();
  socket.on('error', () => {});
  setInterval(() => {}, 1000);`;

describe('a connection that a member has closed', () => {
  let network: NamespacePair;
  let member: ChildProcess;
  let client: ChildProcess;

  beforeEach(async () => {
    network = new NamespacePair();
    const script = new URL('../test/closing-process.ts', import.meta.url).pathname;
    member = start(network.node, ['--conditions=@tandem/source', script, String(unackedMs)]);
    await printed(member, 'ready');
    client = start(network.pod, ['-e', deafClient]);
    await printed(member, 'asked');
  });

  afterEach(async () => {
    member.stdin?.end();
    client.kill('SIGKILL');
    await Promise.all([member, client].map((child) => once(child, 'close')));
    network[Symbol.dispose]();
  });

  function start(namespace: string, args: readonly string[]): ChildProcess {
    const command = [`--net=/run/netns/${namespace}`, process.execPath, ...args];
    return spawn('nsenter', command, { stdio: ['pipe', 'pipe', 'inherit'] });
  }

  async function printed(child: ChildProcess, line: string): Promise<void> {
    const [text] = await once(child.stdout as NodeJS.ReadableStream, 'data');
    assert.equal(String(text), `${line}\n`);
  }

  /** Connections of port P that the node's kernel has. */
  const connections = (): string =>
    network.inNode('ss', ['-tanHo', 'state', 'connected', `sport = :${portP}`]);

  /** Whether the kernel has the connection after the member closed it, and gives it up in time. */
  async function isGivenUp(): Promise<void> {
    assert.match(connections(), /FIN-WAIT-1/);
    const deadlineMs = performance.now() + 4 * unackedMs;
    while (connections() !== '') {
      assert.ok(performance.now() < deadlineMs, `still there: ${connections()}`);
      await sleep(100);
    }
  }

  test('is repeated to the address of a pod that is gone for no longer than the bound', async () => {
    const drop = `tcp sport ${portP} drop`;
    const rules = `table inet gone { chain in { type filter hook input priority 0; ${drop}; }; }`;
    network.inPod('nft', ['-f', '-'], rules);
    member.stdin?.write('64\n');
    await printed(member, 'closed');
    await isGivenUp();
    const sent = network.packets('marked_tcp');
    await sleep(unackedMs);
    assert.equal(network.packets('marked_tcp'), sent);
  });

  test('keeps octets for a pod that takes none for no longer than the bound', async () => {
    member.stdin?.write(`${8 << 20}\n`);
    await printed(member, 'closed');
    await isGivenUp();
  });
});
