// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Policy and pods change under load (safety rules 6 and 12; threat T29): at every moment an answer is one
 * that the old policy or the new one gives, after the change only the new one counts, at both members, and
 * an address that another pod had before opens nothing.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { askDns, type Rcode } from '@tandem/testing/dns-query';
import type { Pod } from '@tandem/testing/netns';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { assertSilence, canConnect, silenceMs } from '../kit/attack.ts';
import { endpointOf } from '../kit/endpoints.ts';
import { startLoad } from '../kit/load.ts';
import { dnsPolicy, podObject } from '../kit/objects.ts';
import { clusterDns4, clusterDns6, startStandardNode } from '../kit/standard-node.ts';

const policyOf = (name: string, patterns: readonly string[]): object => {
  const rules = patterns.map((matchPattern) => ({ matchPattern }));
  return dnsPolicy({ name, selects: { app: name }, dns: rules, fqdns: rules });
};
/** The client's own patterns beside what it always may ask, and two sides that never change. */
const policiesWith = (patterns: readonly string[]): object[] => [
  policyOf('client', ['*.both.test', ...patterns]),
  policyOf('one', ['*.one.test']),
  policyOf('two', ['*.two.test']),
];
const standard = await startStandardNode({
  policies: policiesWith(['*.one.test']),
  rules: [
    { suffix: 'both.test', numbered: { ipv4: '198.18.64.0', ttl: 600 } },
    { suffix: 'one.test', numbered: { ipv4: '198.18.128.0', ttl: 600 } },
    { suffix: 'two.test', numbered: { ipv4: '198.18.192.0', ttl: 600 } },
    { suffix: 'denied.test', numbered: { ipv4: '198.19.0.0', ttl: 600 } },
  ],
});
after(() => standard[Symbol.asyncDispose]());

const { client, dns, node, tandem } = standard;
const bases = { one: '198.18.128', two: '198.18.192' } as const;
type Side = keyof typeof bases;
const otherSide = (side: Side): Side => (side === 'one' ? 'two' : 'one');

/** Rcodes of 24 questions from ports of their own, so that both members answer. */
async function rcodesOf(probe: Probe, suffix: string): Promise<Set<Rcode>> {
  const replies = await Promise.all(
    Array.from({ length: 24 }, (_, i) =>
      askDns(probe, {
        server: i % 2 === 0 ? clusterDns4 : clusterDns6,
        name: `n-${1 + (i % 5)}.${suffix}`,
        transport: i % 3 === 0 ? 'tcp' : 'udp',
      }),
    ),
  );
  return new Set(replies.map(({ rcode }) => rcode));
}

/** The oracle: what a pod with this side's policy may do at this moment. */
async function assertIs(probe: Probe, side: Side): Promise<void> {
  assert.deepEqual(await rcodesOf(probe, `${side}.test`), new Set(['NOERROR']));
  assert.deepEqual(await rcodesOf(probe, `${otherSide(side)}.test`), new Set(['REFUSED']));
  const reachable = await Promise.all([
    canConnect(probe, `${bases[side]}.1`),
    canConnect(probe, `${bases[otherSide(side)]}.1`),
  ]);
  assert.deepEqual(reachable, [true, false], side);
}

test('a policy that changes six times under load gives no wrong answer', async () => {
  const flips = 6;
  // New with each flip: members need a while to compile it, which must not be seen.
  const filler = (flip: number): string[] =>
    Array.from({ length: 800 }, (_, i) => `*.${flip}-${i}.filler.test`);
  const space = node.pod('client').namespace;
  const seconds = 10;
  const common = { server: clusterDns4, seconds, sockets: 32 };
  await using allowed = startLoad(space, { ...common, rate: 200, nameFormat: 'n-%u.both.test' });
  await using denied = startLoad(space, { ...common, rate: 100, nameFormat: 'n-%u.denied.test' });
  const change = async (patterns: readonly string[]): Promise<void> => {
    const revision = tandem.appliedRevision();
    tandem.write('policy.yaml', policiesWith(patterns));
    await tandem.waitForRevision(revision);
  };
  for (let flip = 0; flip < flips; flip++) {
    const side = flip % 2 === 0 ? 'two' : 'one';
    await change([`*.${side}.test`, ...filler(flip)]);
    await assertIs(client, side);
  }
  await change(['*.one.test']);
  const [allowedAll, deniedAll] = await Promise.all([allowed.result, denied.result]);
  assert.deepEqual([allowedAll.lost, allowedAll.rcodes], [0, { '0': allowedAll.sent }]);
  assert.deepEqual([deniedAll.lost, deniedAll.rcodes], [0, { '5': deniedAll.sent }]);
  const leaked = (await dns.queries()).filter(({ name }) => name.endsWith('denied.test'));
  assert.deepEqual(leaked, []);
});

describe('pods that get the address of one that is gone', () => {
  const address = { ipv4: '10.1.0.77', ipv6: 'fd00:1::77' } as const;
  /**
   * Writes the objects and waits until the datapath takes the address for this. A revision would not do: interfaces
   * that come and go make revisions too.
   */
  const assign = async (
    objects: readonly object[],
    pod: Pod | null,
    isHeld = false,
  ): Promise<void> => {
    tandem.write('reused.yaml', objects);
    const isKnown = (each: string): boolean => {
      const known = endpointOf(tandem, each);
      return pod === null
        ? known === null
        : known?.ifindex === pod.hostIfindex && known.isHeld === isHeld;
    };
    await waitFor(() => Object.values(address).every(isKnown), {
      what: 'the pod to be known',
      timeoutMs: 15_000,
    });
  };
  /** The pod is known; neighbour discovery, which went unanswered before, is asked again once a second. */
  const assertBecomes = async (probe: Probe, side: Side): Promise<void> => {
    await waitFor(() => askDns(probe, { server: clusterDns6, name: 'n-1.denied.test' }), {
      what: 'the gateway to be found',
      timeoutMs: 10_000,
    });
    await assertIs(probe, side);
  };
  /** A pod for as long as `use` takes; its object, if there is one, stays. */
  const withPod = async (
    name: string,
    use: (pod: Pod, probe: Probe) => Promise<void>,
  ): Promise<void> => {
    const pod = await node.addPod({ name, ...address });
    try {
      await using probe = Probe.start(pod.namespace);
      await use(pod, probe);
    } finally {
      await node.removePod(name);
    }
  };
  const assertNobody = async (probe: Probe): Promise<void> => {
    const asked = { server: clusterDns4, name: 'n-1.one.test', timeoutMs: silenceMs };
    await Promise.all([
      assertSilence(askDns(probe, asked), 'an unknown pod was answered'),
      assertSilence(askDns(probe, { ...asked, server: clusterDns6 }), 'and by IPv6'),
      ...Object.values(bases).map(async (base) =>
        assert.ok(!(await canConnect(probe, `${base}.1`))),
      ),
    ]);
  };

  for (const round of [1, 2, 3, 4]) {
    const side = round % 2 === 0 ? 'two' : 'one';
    test(`round ${round}: unknown until it has a policy, then its own alone`, async () => {
      await withPod(`p${round}`, async (pod, probe) => {
        await assertNobody(probe);
        await assign([podObject(pod, { labels: { app: side } })], pod);
        await assertBecomes(probe, side);
      });
      // In odd rounds the object of the old pod is still there when the next one starts.
      if (round % 2 === 0) await assign([], null);
    });
  }

  test('a finished pod that still has its object is not who has the address now', () =>
    withPod('job', async (pod, probe) => {
      const now = podObject(pod, { labels: { app: 'two' } });
      const finished = {
        ...podObject({ ...pod, name: 'finished' }, { labels: { app: 'one' } }),
        status: { phase: 'Succeeded', podIPs: [{ ip: address.ipv4 }, { ip: address.ipv6 }] },
      };
      await assign([finished, now], pod);
      await assertBecomes(probe, 'two');
      await assign([], null);
    }));

  test('two pods that claim it are both held', () =>
    withPod('claim', async (pod, probe) => {
      const object = podObject(pod, { labels: { app: 'one' } });
      const other = podObject({ ...pod, name: 'rival' }, { labels: { app: 'two' } });
      await assign([object, other], pod, true);
      await assertNobody(probe);
      assert.ok((tandem.counters()['drop_hold'] ?? 0) > 0);
    }));
});
