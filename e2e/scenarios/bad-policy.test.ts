// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Broken files and policies: what was in force stays in force, what never was valid closes the pods that
 * it picks, each is named with what is wrong, and mending it heals without a restart.
 */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { Probe } from '@tandem/testing/probe';
import { tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { tandemMain } from '../kit/built.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { clusterDns4, standardPolicy, startStandardNode } from '../kit/standard-node.ts';

const standard = await startStandardNode({ pods: [{ name: 'other' }] });
after(() => standard[Symbol.asyncDispose]());
const { client, node, tandem } = standard;
const other = node.own(Probe.start(node.pod('other').namespace));
let nextNumber = 1;

/** The agent says it, in a line written after this call. */
function said(pattern: RegExp): () => Promise<unknown> {
  const before = tandem.process('agent').stderr().length;
  return () =>
    waitFor(() => pattern.test(tandem.process('agent').stderr().slice(before)), {
      what: `the agent to say ${pattern}`,
      timeoutMs: 10_000,
    });
}

async function rcodeOf(probe: Probe, suffix: string): Promise<string> {
  const name = `n-${nextNumber++}.${suffix}`;
  return (await askDns(probe, { server: clusterDns4, name, timeoutMs: 1000 })).rcode;
}

/** `tandem status`: its exit code and what it says. */
async function status(): Promise<{ code: number | null; text: string }> {
  const {
    status: code,
    stdout,
    stderr,
  } = await tryRun(
    ...node.node.enter(process.execPath, [
      tandemMain,
      ...['status', `--bpffs-dir=${tandem.pinRoot}`, `--run-dir=${tandem.runDirectory}`],
    ]),
  );
  return { code, text: stdout + stderr };
}

/** Revisions also come and go without a change of ours, so what is waited for is what pods see. */
async function waitForRcode(probe: Probe, suffix: string, rcode: string): Promise<void> {
  await waitFor(async () => (await rcodeOf(probe, suffix)) === rcode, {
    what: `${rcode} for names of ${suffix}`,
    timeoutMs: 10_000,
  });
}

async function checkStandardPolicy(): Promise<void> {
  assert.equal(await rcodeOf(client, 'allowed.test'), 'NOERROR');
  assert.equal(await rcodeOf(client, 'denied.test'), 'REFUSED');
  const direct = client.tcp({ to: '198.19.0.9', port: 80, timeoutMs: 300 });
  await assert.rejects(direct, /ETIMEDOUT/);
}

const widerPolicy = dnsPolicy({
  selects: { app: 'client' },
  dns: [{ matchPattern: '*.allowed.test' }, { matchPattern: '*.denied.test' }],
  fqdns: [{ matchPattern: '*.allowed.test' }],
});

for (const [what, text] of [
  ['no YAML', 'kind: [unclosed'],
  ['cut short', JSON.stringify(standardPolicy).slice(0, 150)],
  ['bytes of no encoding', `apiVersion: v1\nkind: \u0000\u0007\n\t- {`],
] as const) {
  test(`a file that is ${what}: its last good content stays in force, and it is named`, async () => {
    const isNamed = said(/file-unreadable.*policy\.yaml|policy\.yaml.*file-unreadable/);
    tandem.write('policy.yaml', text);
    await isNamed();
    await checkStandardPolicy();
    const broken = await status();
    assert.equal(broken.code, 1, 'degraded');
    assert.match(broken.text, /policy\.yaml/);
    const isMended = said(/resolved.*policy\.yaml/);
    tandem.write('policy.yaml', [widerPolicy]);
    await isMended();
    await waitForRcode(client, 'denied.test', 'NOERROR');
    tandem.write('policy.yaml', [standardPolicy]);
    await waitForRcode(client, 'denied.test', 'REFUSED');
    await checkStandardPolicy();
    const mended = await status();
    assert.doesNotMatch(mended.text, /policy\.yaml/);
  });
}

test('a broken file beside others does not touch them', async () => {
  const isNamed = said(/broken\.yaml/);
  tandem.write('broken.yaml', '}{');
  await isNamed();
  const { code, text } = await status();
  assert.equal(code, 1, 'degraded');
  assert.match(text, /broken\.yaml\s+[^\n]*in force before[^\n]*are open/);
  tandem.write('policy.yaml', [widerPolicy]);
  await waitForRcode(client, 'denied.test', 'NOERROR');
  tandem.remove('broken.yaml');
  tandem.write('policy.yaml', [standardPolicy]);
  await waitForRcode(client, 'denied.test', 'REFUSED');
});

const unsupported = (app: string, name: string): object => ({
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { name, namespace: 'default' },
  spec: {
    endpointSelector: { matchLabels: { app } },
    egress: [
      { toServices: [{ k8sService: { serviceName: 'kube-dns', namespace: 'kube-system' } }] },
    ],
  },
});

test('an unsupported field in a new version: the last good one stays, the field is named', async () => {
  const isNamed = said(/default\/names[^\n]*toServices|toServices[^\n]*default\/names/);
  tandem.write('policy.yaml', [unsupported('client', 'names')]);
  await isNamed();
  await checkStandardPolicy();
  const isMended = said(/resolved[^\n]*default\/names/);
  tandem.write('policy.yaml', [standardPolicy]);
  await isMended();
  await checkStandardPolicy();
});

test('an unsupported field in the first version closes its pods until it is mended', async () => {
  assert.equal(await rcodeOf(other, 'denied.test'), 'NOERROR', 'no policy selects it yet');
  const isNamed = said(/default\/fresh[^\n]*toServices|toServices[^\n]*default\/fresh/);
  tandem.write('fresh.yaml', [unsupported('other', 'fresh')]);
  await isNamed();
  await assert.rejects(rcodeOf(other, 'allowed.test'), /ETIMEDOUT/);
  await assert.rejects(other.tcp({ to: '198.19.0.9', port: 80, timeoutMs: 300 }), /ETIMEDOUT/);
  await checkStandardPolicy();
  const mended = dnsPolicy({
    name: 'fresh',
    selects: { app: 'other' },
    dns: [{ matchPattern: '*' }],
    fqdns: [{ matchPattern: '*.denied.test' }],
  });
  tandem.write('fresh.yaml', [mended]);
  await waitFor(async () => (await rcodeOf(other, 'denied.test')) === 'NOERROR', {
    what: 'the mended policy',
    timeoutMs: 15_000,
  });
  const name = `n-${nextNumber++}.denied.test`;
  const { addresses } = await askDns(other, { server: clusterDns4, name });
  await other.tcp({ to: addresses[0] ?? '', port: 80, data: 'x', want: 1 });
});

test('a name of 255 characters in one policy keeps no other policy from changing', async () => {
  const label = 'a'.repeat(63);
  const long = dnsPolicy({
    name: 'long',
    selects: { app: 'other' },
    dns: [{ matchPattern: '*' }],
    fqdns: [{ matchName: [label, label, label, label].join('.') }],
  });
  const isNamed = said(/default\/long[^\n]*longer than|longer than[^\n]*default\/long/);
  tandem.write('long.yaml', [long]);
  await isNamed();
  tandem.write('policy.yaml', [widerPolicy]);
  await waitForRcode(client, 'denied.test', 'NOERROR');
  assert.match((await status()).text, /default\/long/);
  tandem.remove('long.yaml');
  tandem.write('policy.yaml', [standardPolicy]);
  await waitForRcode(client, 'denied.test', 'REFUSED');
});

test('a second policy of one name: neither wins, its pods are denied, and both files are named', async () => {
  const isNamed = said(
    /default\/names[^\n]*policy\.yaml:1 and twice\.yaml:1|twice\.yaml[^\n]*default\/names/,
  );
  tandem.write('twice.yaml', [widerPolicy]);
  await isNamed();
  await waitFor(
    async () =>
      await rcodeOf(client, 'allowed.test').then(
        () => false,
        () => true,
      ),
    { what: 'the pod to be denied', timeoutMs: 10_000 },
  );
  assert.match((await status()).text, /policy\.yaml:1 and twice\.yaml:1/);
  tandem.remove('twice.yaml');
  await waitForRcode(client, 'allowed.test', 'NOERROR');
  await checkStandardPolicy();
});

test('a section beside spec is named with its file, and closes what it was to restrict', async () => {
  const stray = {
    ...dnsPolicy({
      name: 'stray',
      selects: { app: 'other' },
      dns: [{ matchPattern: '*' }],
      fqdns: [],
    }),
    egressDeny: [{}],
  };
  const isNamed = said(
    /default\/stray[^\n]*egressDeny stands beside|egressDeny stands beside[^\n]*default\/stray/,
  );
  tandem.write('stray.yaml', [stray]);
  await isNamed();
  await assert.rejects(rcodeOf(other, 'allowed.test'), /ETIMEDOUT/);
  assert.match((await status()).text, /stray\.yaml:1/);
  tandem.remove('stray.yaml');
  await waitForRcode(client, 'allowed.test', 'NOERROR');
});
