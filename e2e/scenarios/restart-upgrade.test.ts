// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One ABI version to the next and back, process by process, with a second build whose maps have another
 * layout: both versions serve together in every mixture, changes of policy reach both, nothing is lost on
 * the way, and nothing denied passes at any time.
 */

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { BpfMap } from '@tandem/bpf-loader-node/map';
import { TD_ABI_VERSION, tdGroup } from '@tandem/datapath/abi.gen';
import { agentMember, proxyMember } from '@tandem/datapath/member';
import { agentMaps, pinPaths } from '@tandem/datapath/paths';
import { encodeHello } from '@tandem/dns-proxy/peer/hello';
import { closeFd } from '@tandem/dns-sockets/fd';
import { createListener } from '@tandem/dns-sockets/listener';
import { type UnixMessage, UnixSeqpacket } from '@tandem/dns-sockets/unix-seqpacket';
import { askDns } from '@tandem/testing/dns-query';
import type { Stream } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { attached } from '../kit/attached.ts';
import { assertNothingPassed, type DeniedTraffic, deniedTraffic } from '../kit/enforcement.ts';
import { learnedAddresses } from '../kit/learned.ts';
import { buildNextVersion } from '../kit/next-version.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { clusterDns4, type StandardNode, startStandardNode } from '../kit/standard-node.ts';
import type { ProcessName } from '../kit/tandem-node.ts';
import { endpointBytes, nextEndpointBytes } from '../next/current-layout.ts';

type Version = 'this' | 'next';
const versions = { this: TD_ABI_VERSION, next: TD_ABI_VERSION + 1 } as const;
const valueBytes = { this: endpointBytes, next: nextEndpointBytes } as const;
/** More than all steps take. */
const trafficSeconds = 300;
const isOver = new AbortController();

let standard: StandardNode;
let next: string;
let open: Stream;
let traffic: Promise<DeniedTraffic>;
let nextName = 1;
/** Named by the policy of the moment, beside *.allowed.test. */
let extra = 0;

before(async () => {
  standard = await startStandardNode();
  const { tandem, client } = standard;
  next = await buildNextVersion(tandem.directory);
  const known = await askDns(client, { server: clusterDns4, name: 'n-1.allowed.test' });
  open = await client.connect({ to: known.addresses[0] ?? '', port: 80, data: 'x', want: 1 });
  traffic = deniedTraffic(standard, trafficSeconds, isOver.signal);
  traffic.catch(() => undefined);
});

after(() => standard[Symbol.asyncDispose]());

async function become(name: ProcessName, version: Version): Promise<void> {
  const { tandem } = standard;
  await tandem.kill(name);
  await start(name, version);
}

/** An agent serves before it has loaded its programs: waits for those too. */
async function start(name: ProcessName, version: Version): Promise<void> {
  const { tandem } = standard;
  const { loads } = attached(tandem);
  await tandem.startProcess(name, version === 'next' ? { packages: next } : {});
  await tandem.waitForMembers(['agent', 'proxy']);
  const isLoaded = (): boolean => name === 'proxy' || attached(tandem).loads > loads;
  await waitFor(isLoaded, { what: 'its programs to be loaded' });
}

/** A policy that names one more, applied by the agent that is there. */
async function changePolicy(): Promise<void> {
  const { tandem } = standard;
  extra += 1;
  const names = [{ matchPattern: '*.allowed.test' }, { matchName: `n-${extra}.extra.test` }];
  tandem.write('policy.yaml', [
    dnsPolicy({ selects: { app: 'client' }, dns: names, fqdns: names }),
  ]);
  // A new revision alone is no sign: an agent that has just started applies one before.
  const isInForce = async (): Promise<boolean> => {
    const name = `n-${extra}.extra.test`;
    const { rcode } = await askDns(standard.client, { server: clusterDns4, name });
    const revisions = new Set(tandem.members().map(({ revision }) => revision));
    return rcode !== 'REFUSED' && revisions.size === 1 && revisions.has(tandem.appliedRevision());
  };
  await waitFor(isInForce, { what: 'the change to be in force', timeoutMs: 15_000 });
}

/** Names, denials, connections; also with one of the processes away. */
async function assertServes(): Promise<void> {
  const { client, tandem } = standard;
  const ask = (name: string): ReturnType<typeof askDns> =>
    askDns(client, { server: clusterDns4, name });
  for (let i = 0; i < 8; i++) {
    const reply = await ask(`n-${nextName++}.allowed.test`);
    assert.equal(reply.rcode, 'NOERROR', tandem.logs());
    const stream = await client.tcp({ to: reply.addresses[0] ?? '', port: 80, data: 'x', want: 1 });
    assert.equal(stream.retransmits, 0);
    assert.equal((await ask(`n-${nextName++}.denied.test`)).rcode, 'REFUSED');
  }
  // The newest policy: the server does not know the name, but it may be asked.
  if (extra > 0) assert.notEqual((await ask(`n-${extra}.extra.test`)).rcode, 'REFUSED');
  await open.exchange({ data: 'y', want: 1 });
}

/** With the agent away the proxy alone must know all that the agent wrote last. */
async function assertProxyAlone(version: Version): Promise<void> {
  const { tandem } = standard;
  await tandem.kill('agent');
  await assertServes();
  await start('agent', version);
}

/** Keys of a map of one version, and whether its values have that version's size. */
function keysOf(version: Version, name: 'endpoints' | 'policy' | 'classes'): string[] {
  using map = BpfMap.openPinned(pinPaths(standard.tandem.pinRoot, versions[version]).map(name));
  if (name === 'endpoints') assert.equal(map.valueSize, valueBytes[version]);
  return [...map.entries()].map(([key]) => Buffer.from(key).toString('hex')).sort();
}

/** Both versions' maps say the same. */
function assertInStep(): void {
  for (const name of ['endpoints', 'policy', 'classes'] as const) {
    const keys = keysOf('this', name);
    assert.ok(keys.length > 0);
    assert.deepEqual(keysOf('next', name), keys, name);
  }
}

test('the agent goes first: two versions serve, and a change of policy reaches both', async () => {
  const learned = new Set(learnedAddresses(standard.tandem).keys());
  const endpoints = keysOf('this', 'endpoints');
  await become('agent', 'next');
  assert.deepEqual(keysOf('next', 'endpoints'), endpoints);
  assertInStep();
  const now = learnedAddresses(standard.tandem);
  assert.ok(learned.size > 0 && [...learned].every((address) => now.has(address)));
  await assertServes();
  await changePolicy();
  await assertServes();
  assertInStep();
  await assertProxyAlone('next');
});

test('the proxy follows', async () => {
  await become('proxy', 'next');
  await assertServes();
  await changePolicy();
  await assertProxyAlone('next');
  assertInStep();
});

test('the agent goes back: what the newer one wrote is all there, and its proxy follows', async () => {
  const learned = new Set(learnedAddresses(standard.tandem).keys());
  const endpoints = keysOf('next', 'endpoints');
  const policy = keysOf('next', 'policy');
  await become('agent', 'this');
  assert.deepEqual(keysOf('this', 'endpoints'), endpoints);
  assert.deepEqual(keysOf('this', 'policy'), policy);
  const now = learnedAddresses(standard.tandem);
  assert.ok([...learned].every((address) => now.has(address)));
  await assertServes();
  await changePolicy();
  await assertServes();
  await assertProxyAlone('this');
});

test('the proxy goes back, and both come again', async () => {
  await become('proxy', 'this');
  await changePolicy();
  await assertServes();
  await become('agent', 'next');
  assertInStep();
  await assertServes();
  await become('agent', 'this');
  await assertServes();
});

test('beside a member of before the second listeners they are not used', async () => {
  const { tandem } = standard;
  using heavy = BpfMap.openPinned(pinPaths(tandem.pinRoot).map('heavy_listeners'));
  const isUsed = (member: number): boolean =>
    heavy.lookup(new Uint8Array(Uint32Array.of(member).buffer)) !== null;
  assert.ok(isUsed(agentMember) && isUsed(proxyMember));
  await tandem.kill('proxy');
  const fds = (['udp', 'tcp', 'udp', 'tcp'] as const).map((protocol, kind) =>
    createListener({
      ...{ family: kind < 2 ? 4 : 6, protocol, port: 0 },
      ...{ mark: 0, markMask: 0, redirectMark: 0 },
    }),
  );
  const hello = encodeHello(proxyMember, fds);
  new DataView(hello.bytes.buffer).setUint32(4, 1, true);
  const got: UnixMessage[] = [];
  const former = UnixSeqpacket.connect(join(tandem.runDirectory, 'peer.sock'), {
    onMessage: (message) => {
      for (const fd of message.fds) closeFd(fd);
      got.push(message);
    },
    onEnd: () => undefined,
  });
  try {
    former.send(hello.bytes, hello.fds);
    await waitFor(() => got.length > 0 && !isUsed(agentMember), { what: 'one listener again' });
    await assertServes();
    assert.equal(got.length, 1);
  } finally {
    former.close();
    for (const fd of fds) closeFd(fd);
  }
  await start('proxy', 'this');
  await waitFor(() => isUsed(agentMember) && isUsed(proxyMember), { what: 'both listeners' });
  await assertServes();
});

test('nothing denied passed meanwhile', async () => {
  isOver.abort();
  assertNothingPassed(await traffic, { mayBeUnready: true });
});

test('an agent that does not know the pins ends, and leaves all as it is', async () => {
  const { tandem } = standard;
  await tandem.kill('agent');
  const unknown = TD_ABI_VERSION + 8;
  // As an agent of a version far ahead would leave them, which keeps only what is near its own.
  const paths = pinPaths(tandem.pinRoot, unknown);
  mkdirSync(paths.version);
  for (const name of agentMaps) {
    using map = BpfMap.openPinned(pinPaths(tandem.pinRoot).map(name));
    map.pin(paths.map(name));
  }
  using group = BpfMap.openPinned(paths.map('group'));
  const words = new Uint32Array(group.mmap());
  const before_ = attached(tandem);
  words[tdGroup.agent_abi / 4] = unknown;
  words[tdGroup.kept_abi / 4] = unknown - 1;
  const running = await tandem.startProcess('agent');
  assert.equal((await running.exited).status, 1);
  const expected = `agent of ABI version ${unknown}, this one is ${TD_ABI_VERSION}`;
  assert.match(running.stderr(), new RegExp(`start failed.*${expected}`));
  assert.deepEqual(attached(tandem), before_);
  assertNothingPassed(await deniedTraffic(standard, 1));
});
