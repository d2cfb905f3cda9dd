// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * From the ABI version before this one to this one and back, by the real migrations, under policies whose entries mean something
 * else in the other version: nothing that both deny passes at any time, and what this version denies by a ClusterNetworkPolicy
 * stays denied after a rollback until the former agent has applied policy of its own. An agent that is killed anywhere in the
 * migration leaves what was in force.
 */

import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { BpfMap } from '@tandem/bpf-loader-node/map';
import { TD_ABI_VERSION, TD_VERDICT_DECIDED, tdPolicy } from '@tandem/datapath/abi.gen';
import { removePins } from '@tandem/datapath/datapath';
import { pinPaths } from '@tandem/datapath/paths';
import { waitFor } from '@tandem/testing/wait';
import { attached } from '../kit/attached.ts';
import { type BpfFault, BpfFaults } from '../kit/bpf-faults.ts';
import { builtPackages } from '../kit/built.ts';
import { assertNothingPassed, deniedTraffic } from '../kit/enforcement.ts';
import { buildFormerVersion } from '../kit/former-version.ts';
import { type StandardNode, standardPolicy, startStandardNode } from '../kit/standard-node.ts';

type Version = 'former' | 'this';
const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
const abiOf = { former: TD_ABI_VERSION - 1, this: TD_ABI_VERSION } as const;
const deniedMs = 700;
/** On a busy machine. */
const loadMs = 30_000;
const trafficSeconds = 600;
/** No name's: denied by `standardPolicy`, and by `admin` in a way of its own. */
const outside = '203.0.113.10';

const client = {
  pods: {
    namespaceSelector: {},
    podSelector: { matchLabels: { app: 'client' } },
  },
};

function admin(...egress: readonly object[]): object {
  return {
    ...{ apiVersion: 'policy.networking.k8s.io/v1beta1', kind: 'ClusterNetworkPolicy' },
    metadata: { name: 'admin' },
    spec: { tier: 'Admin', priority: 1, subject: client, egress },
  };
}
const networks = (...prefixes: readonly string[]): object => ({ networks: prefixes });
/** Decided entries of each verdict; what it passes is denied by `standardPolicy`, in either version. */
const decided = admin(
  { action: 'Accept', to: [networks(`${outside}/32`)] },
  { action: 'Pass', to: [networks('198.18.0.0/15', '2001:db8::/32')] },
  { action: 'Deny', to: [networks('0.0.0.0/0', '::/0')] },
);
/** The former version would let it pass. */
const onlyHere = admin({ action: 'Deny', to: [networks('203.0.113.0/24')] });

let directory: string;
let former: string;
let standard: StandardNode;
let faults: BpfFaults;

before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'tandem-former-'));
  // The proxy's uid starts the programs in it.
  chmodSync(directory, 0o755);
  former = await buildFormerVersion(directory);
  faults = new BpfFaults(directory);
  standard = await startStandardNode({
    packages: former,
    policies: [standardPolicy, decided],
    environment: (name) => (name === 'agent' ? faults.environment : {}),
  });
});
after(async () => {
  await standard[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

const packagesOf = (version: Version): { readonly packages?: string } =>
  version === 'former' ? { packages: former } : { packages: builtPackages };

async function become(
  version: Version,
  flags: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { tandem } = standard;
  if (tandem.isAlive('agent')) await tandem.kill('agent');
  const { loads } = attached(tandem);
  await tandem.startProcess('agent', { ...packagesOf(version), flags });
  await waitFor(() => attached(tandem).loads > loads, {
    what: 'its programs to be loaded',
    timeoutMs: loadMs,
  }).catch((error: Error) => {
    throw new Error(`${error.message}: ${tandem.logs()}`, { cause: error });
  });
}

/** Until the agent that runs has applied its policy. */
async function applied(): Promise<void> {
  const { tandem } = standard;
  await tandem.waitForMembers(['agent', 'proxy']);
  await waitFor(() => tandem.applications() > 0, { what: 'policy to be applied' });
}

async function isReached(to: string): Promise<boolean> {
  const options = { to, port: 80, data: 'x', want: 1, timeoutMs: deniedMs };
  return standard.client.tcp(options).then(
    () => true,
    () => false,
  );
}

/** Verdicts in `policy` of a version, with their bits. */
function verdictsOf(version: Version): ReadonlySet<number> {
  using map = BpfMap.openPinned(pinPaths(standard.tandem.pinRoot, abiOf[version]).map('policy'));
  return new Set([...map.entries()].map(([, value]) => value[tdPolicy.verdict] ?? 0));
}

const isDecided = (verdict: number): boolean => (verdict & TD_VERDICT_DECIDED) !== 0;

test('there and back: what both versions deny never passes, what this one accepts does', async () => {
  const isOver = new AbortController();
  const traffic = deniedTraffic(standard, trafficSeconds, isOver.signal);
  traffic.catch(() => undefined);
  try {
    assert.equal(await isReached(outside), false, 'the former version does not know the kind');
    await become('this');
    await applied();
    assert.ok(await isReached(outside));
    assert.ok([...verdictsOf('this')].some(isDecided));
    assert.ok(![...verdictsOf('former')].some(isDecided), 'which has a meaning here alone');
    // Without its source it applies nothing: what is enforced is what this version kept for it.
    await become('former', { source: `directory:${directory}/none` });
    assert.ok(await isReached(outside));
    await become('this');
    await applied();
    assert.ok(await isReached(outside));
  } finally {
    isOver.abort();
  }
  assertNothingPassed(await traffic, { mayBeUnready: true });
});

test('what only this version denies stays denied after a rollback, until policy is applied', async () => {
  const { tandem } = standard;
  const revision = tandem.appliedRevision();
  tandem.write('policy.yaml', [onlyHere]);
  await tandem.waitForRevision(revision);
  assert.equal(await isReached(outside), false);
  await become('former', { source: `directory:${directory}/none` });
  assert.equal(await isReached(outside), false);
  await become('former');
  await applied();
  assert.ok(await isReached(outside), 'the kind is not enforced there');
});

/** Commands of which a start makes several calls that change something. */
const commands = ['MAP_CREATE', 'PROG_LOAD', 'MAP_UPDATE_BATCH', 'OBJ_PIN', 'LINK_UPDATE'] as const;

function killsOf(counts: ReturnType<BpfFaults['counts']>): readonly BpfFault[] {
  return commands.flatMap((command) => {
    const all = Array.from({ length: counts[command] }, (_, index) => index + 1);
    const middle = [(all.length >> 1) + 1];
    const isShort = command === 'OBJ_PIN' || command === 'LINK_UPDATE';
    const chosen = isFull ? all : isShort ? middle : [];
    return chosen.map((nth) => ({ command, nth, how: 'KILL' as const }));
  });
}

test('an agent that is killed in the migration leaves what was in force, whichever version comes next', async () => {
  const { tandem } = standard;
  tandem.write('policy.yaml', [standardPolicy, decided]);
  await become('former');
  await applied();
  faults.set(null);
  await become('this');
  await applied();
  const kills = killsOf(faults.counts());
  assert.ok(kills.length > 0);
  const isOver = new AbortController();
  const traffic = deniedTraffic(standard, trafficSeconds, isOver.signal);
  traffic.catch(() => undefined);
  try {
    for (const [index, fault] of kills.entries()) {
      faults.set(null);
      await become('former');
      await applied();
      await tandem.kill('agent');
      faults.set(fault);
      const agent = await tandem.startProcess('agent', packagesOf('this'));
      await agent.exited;
      faults.set(null);
      const version = index % 2 === 0 ? 'former' : 'this';
      await become(version);
      await applied();
      const label = `${fault.command} ${fault.nth}`;
      assert.equal(await isReached(outside), version === 'this', label);
    }
  } finally {
    isOver.abort();
  }
  assertNothingPassed(await traffic, { mayBeUnready: true });
});

test('a node that began with this version has no maps of the former one, whose agent ends and changes nothing', async () => {
  const { tandem } = standard;
  for (const name of ['agent', 'proxy'] as const) if (tandem.isAlive(name)) await tandem.kill(name);
  removePins(tandem.pinRoot);
  for (const name of ['agent', 'proxy'] as const)
    await tandem.startProcess(name, packagesOf('this'));
  await applied();
  assert.ok(await isReached(outside));
  await tandem.kill('agent');
  const now = attached(tandem);
  const agent = await tandem.startProcess('agent', packagesOf('former'));
  assert.equal((await agent.exited).status, 1);
  const expected = `agent of ABI version ${abiOf.this}, this one is ${abiOf.former}`;
  assert.match(agent.stderr(), new RegExp(`start failed.*${expected}`));
  assert.deepEqual(attached(tandem), now);
  assert.ok(await isReached(outside));
  assert.equal(await isReached('203.0.113.11'), false);
});
