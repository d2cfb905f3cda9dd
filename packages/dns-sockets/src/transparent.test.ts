// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The listeners as the datapath uses them: transparent, marked, guarded; in namespaces. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import {
  NamespacePair,
  nodeAddress,
  podAddress,
  portP,
  serviceAddress,
} from '../test/namespace-pair.ts';
import * as layout from './layout.ts';

interface Answer {
  readonly error?: string;
  readonly from?: string;
  readonly port?: number;
  readonly answer?: Record<string, string | number>;
}

/** Sixteen bytes in hex. */
const hex: Record<string, string> = {
  [serviceAddress[4]]: '00000000000000000000ffff0a60000a',
  [serviceAddress[6]]: 'fd96000000000000000000000000000a',
  [podAddress[4]]: '00000000000000000000ffff0a070102',
  [podAddress[6]]: 'fd070000000000000000000000000002',
};

function script(namespace: string, name: string, args: readonly string[]): ChildProcess {
  const path = new URL(`../test/${name}`, import.meta.url).pathname;
  return spawn(
    'nsenter',
    [
      `--net=/run/netns/${namespace}`,
      process.execPath,
      '--conditions=@tandem/source',
      path,
      ...args,
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
}

async function output(child: ChildProcess): Promise<string> {
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  await once(child, 'close');
  return text;
}

describe('listeners in a node namespace', () => {
  let network: NamespacePair;
  let member: ChildProcess;

  before(async () => {
    network = new NamespacePair();
    member = script(network.node, 'member-process.ts', []);
    const [ready] = await once(member.stdout as NodeJS.ReadableStream, 'data');
    assert.equal(String(ready), 'ready\n');
  });

  after(async () => {
    member.stdin?.end();
    await once(member, 'close');
    network[Symbol.dispose]();
  });

  async function ask(protocol: string, address: string, timeoutMs: number): Promise<Answer> {
    const args = [protocol, address, String(portP), String(timeoutMs)];
    return JSON.parse(await output(script(network.pod, 'pod-process.ts', args))) as Answer;
  }

  for (const family of [4, 6] as const) {
    const service = serviceAddress[family];
    const pod = podAddress[family];

    test(`IPv${family} UDP: original destination seen, the reply leaves from it, marked`, async () => {
      const { from, port, answer } = await ask('udp', service, 5000);
      assert.equal(from, service);
      assert.equal(port, portP);
      assert.equal(answer?.['destination'], hex[service]);
      assert.equal(answer?.['destinationPort'], portP);
      assert.equal(answer?.['peer'], hex[pod]);
      assert.equal(answer?.['flags'], layout.RX_FLAG_DESTINATION);
      assert.ok(Number(answer?.['ifindex']) > 1, 'the veth, not lo');
      assert.ok(network.packets('marked_udp') > 0);
    });

    test(`IPv${family} TCP: localAddress is the original destination, SO_MARK inherited`, async () => {
      const { answer } = await ask('tcp', service, 5000);
      assert.equal(answer?.['localAddress'], service);
      assert.equal(answer?.['localPort'], portP);
      assert.equal(answer?.['remoteAddress'], pod);
      assert.ok(network.packets('marked_tcp') > 0);
    });

    test(`IPv${family}: the guard drops what has no redirect mark`, async () => {
      const [udp, tcp] = await Promise.all([
        ask('udp', nodeAddress[family], 700),
        ask('tcp', nodeAddress[family], 700),
      ]);
      assert.deepEqual(udp, { error: 'timeout' });
      assert.deepEqual(tcp, { error: 'timeout' });
    });
  }

  test('nothing left from port P without the socket mark', () => {
    assert.equal(network.packets('bare'), 0);
  });
});
