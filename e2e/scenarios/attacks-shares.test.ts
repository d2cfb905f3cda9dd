// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One tenant's policies and answers keep no other's names from being learned (safety rule 17): places of an address,
 * pairs that only foreign policies want, and namespaces that want more than the map is to give them. The whole map
 * is filled in bpf/tests/learn.test.ts.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TD_PLACES_MAX } from '@tandem/datapath/abi.gen';
import type { LearnedNamespace } from '@tandem/proto/gen/messages';
import { askDns } from '@tandem/testing/dns-query';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { counterOf, statusOf } from '../kit/admin.ts';
import { canConnect } from '../kit/attack.ts';
import { learnedAddresses } from '../kit/learned.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { clusterDns4, standardPolicy, startStandardNode } from '../kit/standard-node.ts';

const quota = 64;
const placesOfAddress = 64;

/** Patterns that match n-NUMBER.allowed.test, each another one, and that sort before anybody's `*.allowed.test`. */
function patternsFor(number: number, count: number): { matchPattern: string }[] {
  const withStar = (label: string): string[] => {
    const texts = new Set<string>();
    for (let from = 0; from < label.length; from++) {
      for (let to = from + 1; to <= label.length; to++) {
        texts.add(`${label.slice(0, from)}*${label.slice(to)}`);
      }
    }
    return [...texts];
  };
  const all = withStar('allowed').flatMap((middle) =>
    withStar('test').map((last) => ({ matchPattern: `*-${number}.${middle}.${last}` })),
  );
  assert.ok(all.length >= count);
  return all.slice(0, count);
}

const own = [{ matchPattern: '*.allowed.test' }];
const standard = await startStandardNode({
  pods: [{ name: 'evil' }, { name: 'greedy' }],
  podObjects: { evil: { namespace: 'evil' }, greedy: { namespace: 'greedy' } },
  policies: [
    standardPolicy,
    dnsPolicy({
      name: 'evil',
      namespace: 'evil',
      selects: { app: 'evil' },
      dns: own,
      fqdns: [...patternsFor(5, 100), ...patternsFor(7, 63), ...patternsFor(9, 280)],
    }),
    dnsPolicy({
      name: 'greedy',
      namespace: 'greedy',
      selects: { app: 'greedy' },
      dns: own,
      fqdns: own,
    }),
  ],
  agentOptions: { 'quota-namespace': quota },
});
after(() => standard[Symbol.asyncDispose]());
const { node, tandem, client } = standard;
let evil: Probe;
let greedy: Probe;
before(() => {
  evil = node.own(Probe.start(node.pod('evil').namespace));
  greedy = node.own(Probe.start(node.pod('greedy').namespace));
});

const addressOf = (number: number): string => `198.18.${number >> 8}.${number & 255}`;
const ask = async (probe: Probe, number: number): Promise<void> => {
  const { rcode } = await askDns(probe, { server: clusterDns4, name: `n-${number}.allowed.test` });
  assert.equal(rcode, 'NOERROR');
};

/** Row of a namespace in `tandem status`. */
const learnedFor = async (name: string): Promise<LearnedNamespace | undefined> =>
  (await statusOf(tandem, 'agent')).learned.find(({ namespace }) => namespace === name);

test('every namespace whose policies name FQDNs has the same share, and all shares fit the map', async () => {
  const { learned } = await statusOf(tandem, 'agent');
  const named = learned.filter(({ namespace }) => namespace !== '');
  assert.deepEqual(named.map(({ namespace }) => namespace).toSorted(), [
    'default',
    'evil',
    'greedy',
  ]);
  for (const { share, limit } of named)
    assert.deepEqual({ share, limit }, { share: quota, limit: quota });
  assert.ok(named.reduce((sum, { share }) => sum + share, 0) <= TD_PLACES_MAX);
});

test('64 patterns of another namespace close no address', async () => {
  await ask(evil, 5);
  const held = learnedAddresses(tandem).get(addressOf(5)) ?? [];
  assert.equal(held.length, placesOfAddress, 'the attack has all places');
  await ask(client, 5);
  assert.ok(await canConnect(client, addressOf(5)), 'the pod connects to what it was answered');
  await ask(evil, 5);
  assert.ok(await canConnect(client, addressOf(5)), 'and still does');
  await waitFor(async () => ((await learnedFor('evil'))?.yielded ?? 0) > 0, {
    what: 'status to say that the other namespace gave a place',
  });
});

test('what only foreign policies want is not charged to who asks', async () => {
  const used = (count: number): Promise<unknown> =>
    waitFor(async () => (await learnedFor('default'))?.used === count, {
      what: `${count} pairs of the namespace`,
    });
  await used(1);
  await ask(client, 7);
  await used(2);
  assert.ok(await canConnect(client, addressOf(7)));
});

test('a namespace at its limit gives up its own oldest, and status says so', async () => {
  await ask(client, 1);
  for (let number = 1000; number < 1000 + 2 * quota; number++) await ask(greedy, number);
  assert.ok(await canConnect(client, addressOf(1)), "a neighbour's address stays");
  assert.ok(await canConnect(greedy, addressOf(1000 + 2 * quota - 1)));
  // More where a query was asked twice: its second answer may come when its pair has made room already.
  await waitFor(async () => ((await learnedFor('greedy'))?.replaced ?? 0) >= quota, {
    what: 'as many to be replaced as came too many',
  }).catch(async (cause: Error) => {
    const seen = JSON.stringify(await learnedFor('greedy'));
    throw new Error(`${cause.message}, ${quota}: ${seen}`, { cause });
  });
  assert.equal((await learnedFor('greedy'))?.used, quota);
  assert.ok(((await learnedFor('greedy'))?.replaced ?? 0) <= 2 * quota, 'one for each that came');
  assert.ok((await counterOf(tandem, 'agent', 'tandem_learned_replaced_total')) >= quota);
});

test('more patterns of another namespace than one answer feeds keep no address from being learned', async () => {
  await ask(client, 9);
  assert.ok(await canConnect(client, addressOf(9)), 'the pod connects to what it was answered');
});
