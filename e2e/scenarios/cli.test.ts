// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The command line on a real node: healthy, with the agent killed, with no process left. It runs as an
 * operator runs it, a process of its own in the node's namespace.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { askDns } from '@tandem/testing/dns-query';
import { startProcess, tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { tandemMain } from '../kit/built.ts';
import { startLoad } from '../kit/load.ts';
import { clusterDns4, type StandardNode, startStandardNode } from '../kit/standard-node.ts';
import type { TandemNode } from '../kit/tandem-node.ts';

const boundMs = 30_000;

interface Answer {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Status {
  readonly health: string;
  readonly answeredBy: string;
  readonly members: readonly { readonly role: string; readonly isServing: boolean }[];
  readonly policy: { readonly appliedRevision: number; readonly servedRevision: number };
  readonly maps: readonly { readonly name: string; readonly entries: number }[];
  readonly degraded: readonly { readonly code: string; readonly fix: string }[];
  readonly lanes: {
    readonly selected: number;
    readonly selectedHeavy: number;
    readonly heavyPods: readonly string[] | null;
  };
}

interface Event {
  readonly type: string;
  readonly verdict: string;
  readonly pod: string;
  readonly name?: string;
  readonly destination?: string;
  readonly reason?: string;
}

function commandLine(tandem: TandemNode, argv: readonly string[]): [string, string[]] {
  const flags = [
    `--bpffs-dir=${tandem.pinRoot}`,
    `--run-dir=${tandem.runDirectory}`,
    `--state-dir=${tandem.stateDirectory}`,
  ];
  return tandem.node.node.enter(process.execPath, [...[tandemMain, ...flags, ...argv]]);
}

async function cli({ tandem }: StandardNode, ...argv: string[]): Promise<Answer> {
  const { status, stdout, stderr } = await tryRun(...commandLine(tandem, argv), {
    timeoutMs: boundMs,
  });
  return { code: status, stdout, stderr };
}

async function cliJson<T>(standard: StandardNode, ...argv: string[]): Promise<T> {
  const answer = await cli(standard, ...argv, '-o', 'json');
  assert.equal(answer.code, 0, `${argv.join(' ')}: ${answer.stderr}`);
  return JSON.parse(answer.stdout) as T;
}

async function statusOf(standard: StandardNode): Promise<{ code: number | null; status: Status }> {
  const { code, stdout } = await cli(standard, 'status', '-o', 'json');
  return { code, status: JSON.parse(stdout) as Status };
}

/** Events of now, a document each. */
async function eventsOf(standard: StandardNode, ...filters: string[]): Promise<Event[]> {
  const argv = ['observe', '-o', 'json', '--no-follow', '--last', '1000', ...filters];
  const { code, stdout, stderr } = await cli(standard, ...argv);
  assert.equal(code, 0, stderr);
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Event);
}

async function ask({ client }: StandardNode, name: string): Promise<string | undefined> {
  return (await askDns(client, { server: clusterDns4, name })).addresses[0];
}

/** Checks what must hold for each answering process: `name` is known, its query and the denied one were seen. */
async function checkReading(
  standard: StandardNode,
  answeredBy: string,
  name: string,
): Promise<void> {
  await waitFor(
    async () => {
      const listed = await cliJson<{
        answeredBy: string;
        names: { name: string; address: string; expiresInSeconds: number }[];
      }>(standard, 'fqdn', 'list', '--name', '*.allowed.test');
      assert.equal(listed.answeredBy, answeredBy);
      return listed.names.some((entry) => entry.name === `${name}.` && entry.expiresInSeconds > 0);
    },
    { what: `${name} in fqdn list`, timeoutMs: boundMs },
  );
  const endpoints = await cliJson<{
    answeredBy: string;
    endpoints: { namespace: string; pod: string; flags: string[] }[];
  }>(standard, 'endpoint', 'list', '--pod', 'default/client');
  assert.equal(endpoints.answeredBy, answeredBy);
  assert.equal(endpoints.endpoints.length, 2, 'both addresses of the pod');
  for (const { flags } of endpoints.endpoints) assert.ok(flags.includes('enforce-egress'));
  const allowed = await eventsOf(standard, '--pod', 'default/client', '--name', name);
  assert.deepEqual(
    allowed.map(({ type, verdict, pod }) => [type, verdict, pod]),
    [['dns', 'allowed', 'default/client']],
  );
}

test('the command line, whoever lives', async () => {
  await using standard = await startStandardNode();
  const { tandem, client } = standard;

  // Healthy.
  const healthy = await waitFor(
    async () => {
      const answer = await statusOf(standard);
      return answer.code === 0 ? answer.status : null;
    },
    { what: 'a healthy node', timeoutMs: boundMs },
  );
  assert.equal(healthy.health, 'healthy');
  assert.equal(healthy.answeredBy, 'agent');
  assert.deepEqual(
    healthy.members.map(({ role, isServing }) => [role, isServing]),
    [
      ['agent', true],
      ['dns-proxy', true],
    ],
  );
  assert.equal(healthy.policy.servedRevision, healthy.policy.appliedRevision);
  assert.ok(healthy.maps.some(({ name, entries }) => name === 'endpoints' && entries === 4));
  const table = await cli(standard, 'status');
  assert.match(table.stdout, /Health: +HEALTHY\n[^]*agent +yes +live[^]*dns-proxy +yes +live/);

  assert.ok((await ask(standard, 'n-1.allowed.test')) !== undefined);
  await ask(standard, 'n-1.denied.test');
  await assert.rejects(client.tcp({ to: '198.19.7.7', port: 80, data: 'x', timeoutMs: 300 }));
  await checkReading(standard, 'agent', 'n-1.allowed.test');
  const denied = await eventsOf(standard, '--verdict', 'denied');
  assert.ok(denied.some(({ type, name }) => type === 'dns' && name === 'n-1.denied.test.'));
  const drops = await eventsOf(standard, '--type', 'drop', '--pod', 'default/');
  assert.ok(
    drops.some(
      ({ destination, reason }) => destination === '198.19.7.7' && reason === 'drop_no_match',
    ),
  );

  const doctor = await cli(standard, 'doctor');
  assert.equal(doctor.code, 0, doctor.stdout);
  for (const check of [
    'pins',
    'judge-slot',
    'endpoint-links',
    'members',
    'nft-table',
    'lanes',
    'routing6',
  ]) {
    assert.match(doctor.stdout, new RegExp(`^pass +${check} `, 'm'));
  }

  // A pod that asks much is named, as long as it does.
  assert.deepEqual(healthy.lanes.heavyPods, []);
  const load = startLoad(standard.node.pod('client').namespace, {
    ...{ server: clusterDns4, rate: 1000, seconds: 2 * (boundMs / 1000) },
    ...{ nameFormat: 'n-%u.allowed.test', nameStart: 100, nameCount: 50 },
  });
  const named = (pods: readonly string[]): Promise<Status> =>
    waitFor(
      async () => {
        const { status } = await statusOf(standard);
        return isDeepStrictEqual(status.lanes.heavyPods, pods) ? status : null;
      },
      { what: `[${pods.join()}] to ask much`, timeoutMs: boundMs },
    );
  const { lanes } = await named(['default/client']);
  assert.ok(lanes.selectedHeavy > 0 && lanes.selectedHeavy < lanes.selected, JSON.stringify(lanes));
  load.end();
  await load.result;
  await named([]);

  // The agent is killed while `observe` follows.
  await using follower = startProcess(...commandLine(tandem, ['observe', '--type', 'dns']), {
    timeoutMs: 2 * boundMs,
  });
  await waitFor(() => follower.stderr().includes('answered by the agent'), {
    what: 'observe to follow the agent',
    timeoutMs: boundMs,
  });
  await tandem.kill('agent');
  const degraded = await statusOf(standard);
  assert.equal(degraded.code, 1);
  assert.equal(degraded.status.health, 'degraded');
  assert.equal(degraded.status.answeredBy, 'dns-proxy');
  const codes = degraded.status.degraded.map(({ code }) => code);
  assert.ok(codes.includes('agent-away') || codes.includes('member-stale'), codes.join());
  assert.ok(degraded.status.degraded.every(({ fix }) => fix !== ''));
  assert.ok(
    degraded.status.maps.some(({ name, entries }) => name === 'policy' && entries > 0),
    'the pins tell what the proxy may not read',
  );
  await waitFor(() => follower.stderr().includes('answered by the dns-proxy'), {
    what: 'observe to go over to the proxy',
    timeoutMs: boundMs,
  });
  assert.ok((await ask(standard, 'n-2.allowed.test')) !== undefined);
  await waitFor(() => follower.stdout().includes('A n-2.allowed.test. -> NOERROR'), {
    what: 'the event of the proxy',
    timeoutMs: boundMs,
  });
  await checkReading(standard, 'dns-proxy', 'n-2.allowed.test');

  // No process is left.
  await tandem.kill('proxy');
  const down = await statusOf(standard);
  assert.equal(down.code, 3);
  assert.equal(down.status.answeredBy, 'pins');
  assert.deepEqual(
    down.status.degraded.map(({ code }) => code),
    ['no-member-serves'],
  );
  const pinned = await cliJson<{ answeredBy: string; endpoints: { pod: string }[] }>(
    standard,
    ...['endpoint', 'list', '--pod', 'default/client'],
  );
  assert.equal(pinned.answeredBy, 'pins');
  assert.deepEqual(
    pinned.endpoints.map(({ pod }) => pod),
    ['client', 'client'],
  );
  assert.equal((await cli(standard, 'fqdn', 'list')).code, 3);
});
