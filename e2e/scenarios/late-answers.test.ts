// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A server that takes long: resolvers wait for broken delegations longer than 5 s, and a pod that waits is to
 * get the answer, over UDP and over TCP. So it is when the member that asked was stopped meanwhile: the other one
 * asks again, and whichever answer comes first is delivered. A server that never answers, and one that cannot be reached, make
 * the same events over both transports, and each query counts once.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import type { DnsRule } from '@tandem/testing/dns-script';
import { ProbeError } from '@tandem/testing/probe-process';
import { waitFor } from '@tandem/testing/wait';
import { counterOf } from '../kit/admin.ts';
import { bothCount, waitForCount } from '../kit/dns-counters.ts';
import { startLoad } from '../kit/load.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { type ObservedDns, observedDns } from '../kit/observed-dns.ts';
import { clusterDns4, standardRules, startStandardNode } from '../kit/standard-node.ts';

const delaysMs = [5500, 9000] as const;
/** Long enough that the member is stopped before it. */
const takenOverMs = 3000;
const slowRule = (delayMs: number, prefix = ''): DnsRule => ({
  suffix: `${prefix}after-${delayMs}.allowed.test`,
  answers: [{ type: 'A', data: '198.18.0.7' }],
  replies: [{ delayMs }],
});
/** Each is answered the second time that it is asked for, as by a Service whose first backend is gone. */
const secondNames = Array.from({ length: 16 }, (_, i) => `n-${i}.second.allowed.test`);
const pattern = [{ matchPattern: '**.allowed.test' }];
const clusterDns = {
  toEndpoints: [{ matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system' } }],
} as const;
const standard = await startStandardNode({
  pods: [{ name: 'closed' }],
  podObjects: { closed: { namespace: 'kube-system' } },
  rules: [
    ...[...delaysMs, takenOverMs].map((delayMs) => slowRule(delayMs)),
    { suffix: 'silent.allowed.test', replies: [] },
    ...secondNames.map(
      (name) => ({ name, every: 2, answers: [{ type: 'A', data: '198.18.0.7' }] }) as const,
    ),
    { suffix: 'second.allowed.test', replies: [] },
    ...standardRules,
  ],
  // Longer than a client waits below.
  options: { 'drain-timeout': '9s' },
  policies: [
    dnsPolicy({ selects: { app: 'client' }, dns: pattern, fqdns: pattern, dnsPeers: clusterDns }),
  ],
});
after(() => standard[Symbol.asyncDispose]());
const transports = ['udp', 'tcp'] as const;
type Transport = (typeof transports)[number];
/** Queries of each transport: only once each do they add up to their sum. */
const unanswered: Readonly<Record<Transport, number>> = { udp: 2, tcp: 3 };
/** After which the member gives a query up (docs/policy.md). */
const timeoutMs = 10_000;
/** RFC 8914. */
const noReachableAuthority = 22;
const networkError = 23;
const closedServer = standard.node.pod('closed').ipv4 ?? '';
// The kernel answers six times to one address and then once a second.
await standard.node.pod('closed').namespace.sysctl({ 'net.ipv4.icmp_ratelimit': 0 });

describe('an answer that comes late', { concurrency: true }, () => {
  for (const delayMs of delaysMs) {
    for (const transport of transports) {
      test(`after ${delayMs} ms over ${transport} is delivered`, async () => {
        const name = `n-1.after-${delayMs}.allowed.test`;
        const question = { server: clusterDns4, name, transport, timeoutMs: 12_000 } as const;
        const { rcode, addresses } = await askDns(standard.client, question);
        assert.deepEqual([rcode, addresses], ['NOERROR', ['198.18.0.7']]);
      });
    }
  }

  test('none within 10 s: the same event over UDP and TCP, and each query counts once', async () => {
    const before = await bothCount(standard.tandem, 'timeouts');
    const replies = await askUnanswered(clusterDns4, 'silent', timeoutMs + 1500);
    // As from a server that does not answer: only a connection can tell, and it goes on.
    assert.deepEqual(replies.udp, ['ETIMEDOUT', 'ETIMEDOUT']);
    assert.deepEqual(replies.tcp, Array<string>(3).fill(`SERVFAIL ${noReachableAuthority}`));
    const events = await eventsOfUnanswered('silent', clusterDns4);
    assert.deepEqual(describeEvents(events), { udp: ['timeout'], tcp: ['timeout'] });
    for (const { latencyUs, protocol } of events) {
      assert.ok(latencyUs >= timeoutMs * 1000, `${protocol} after ${latencyUs} us`);
    }
    await waitForCount(standard.tandem, 'timeouts', before + 5);
  });
});

test('from a closed port: the same event over UDP and TCP, and each query counts once', async () => {
  const before = await bothCount(standard.tandem, 'upstreamErrors');
  const replies = await askUnanswered(closedServer, 'closed', 8000);
  const failed = `SERVFAIL ${networkError}`;
  assert.deepEqual(replies, { udp: [failed, failed], tcp: [failed, failed, failed] });
  const events = await eventsOfUnanswered('closed', closedServer);
  assert.deepEqual(describeEvents(events), { udp: ['upstream-error'], tcp: ['upstream-error'] });
  await waitForCount(standard.tandem, 'upstreamErrors', before + 5);
});

/** Asks for names below `zone`, as often as `unanswered` says: RCODE and extended errors of each reply, or the error. */
async function askUnanswered(
  server: string,
  zone: string,
  udpWaitMs: number,
): Promise<Record<Transport, readonly string[]>> {
  const ask = async (transport: Transport, i: number): Promise<string> => {
    const name = `${transport}-${i}.${zone}.allowed.test`;
    const waitMs = transport === 'udp' ? udpWaitMs : 30_000;
    const question = { server, name, transport, ednsBytes: 1232, timeoutMs: waitMs } as const;
    return askDns(standard.client, question).then(
      ({ rcode, extendedErrors }) => `${rcode} ${extendedErrors.join(' ')}`,
      (error: unknown) => {
        if (error instanceof ProbeError) return error.code;
        throw error;
      },
    );
  };
  const askAll = (transport: Transport): Promise<string[]> =>
    Promise.all(Array.from({ length: unanswered[transport] }, (_, i) => ask(transport, i)));
  const [udp, tcp] = await Promise.all([askAll('udp'), askAll('tcp')]);
  return { udp, tcp };
}

/** The events of these queries, once they are all there: each must be of the pod, the server, and an error. */
async function eventsOfUnanswered(zone: string, server: string): Promise<readonly ObservedDns[]> {
  const { tandem } = standard;
  let seen: readonly ObservedDns[] = [];
  const isAll = async (): Promise<boolean> => {
    seen = await observedDns(tandem, `*.${zone}.allowed.test`);
    return seen.length >= unanswered.udp + unanswered.tcp;
  };
  const state = (): string => JSON.stringify(seen);
  await waitFor(isAll, { what: `events of names below ${zone}`, state });
  for (const transport of transports) {
    const names = seen.filter((event) => event.protocol === transport).map(({ name }) => name);
    const asked = Array.from(
      { length: unanswered[transport] },
      (_, i) => `${transport}-${i}.${zone}.allowed.test.`,
    );
    assert.deepEqual(names.toSorted(), asked, `one event for each query over ${transport}`);
  }
  for (const event of seen) {
    const { verdict, pod, queryType, rcode } = event;
    assert.deepEqual(
      { verdict, pod, queryType, rcode, server: event.server },
      { verdict: 'error', pod: 'default/client', queryType: 'A', rcode: 'SERVFAIL', server },
    );
  }
  return seen;
}

/** The different outcomes of each transport. */
function describeEvents(events: readonly ObservedDns[]): Record<Transport, readonly string[]> {
  const of = (transport: Transport): string[] => {
    const outcomes = events.filter(({ protocol }) => protocol === transport);
    return [...new Set(outcomes.map(({ outcome }) => outcome))];
  };
  return { udp: of('udp'), tcp: of('tcp') };
}

test('what a member that drains has asked in vain is asked again after a second', async () => {
  const { client, dns, tandem } = standard;
  // Both members have had answers of this server.
  for (let i = 0; i < 16; i++) {
    await askDns(client, { server: clusterDns4, name: `n-${i}.allowed.test` });
  }
  const asked = async (): Promise<number> =>
    (await dns.queries()).filter(({ name }) => secondNames.includes(name)).length;
  const answers = secondNames.map((name) =>
    askDns(client, { server: clusterDns4, name, timeoutMs: 5000 }),
  );
  await waitFor(async () => (await asked()) >= secondNames.length, {
    what: 'the server to be asked',
  });
  // Nobody asks the agent any more, so nothing else shows it that the server is there.
  tandem.signal('agent', 'SIGTERM');
  await using load = startLoad(standard.node.pod('client').namespace, {
    ...{
      server: clusterDns4,
      rate: 50,
      seconds: 3,
      nameFormat: 'n-%u.allowed.test',
      nameCount: 100,
    },
  });
  const rcodes = (await Promise.all(answers)).map(({ rcode }) => rcode);
  assert.deepEqual(rcodes, Array<string>(answers.length).fill('NOERROR'));
  await load.result;
  await tandem.process('agent').exited;
  await tandem.startProcess('agent');
  await tandem.waitForMembers(['agent', 'proxy']);
});

test('the answer to a query that was taken over is delivered by the member that got it', async () => {
  const { client, dns, tandem } = standard;
  const name = `n-1.after-${takenOverMs}.allowed.test`;
  const replayed = (): Promise<number> =>
    counterOf(tandem, 'agent', 'tandem_dns_queries_replayed_total');
  const replayedBefore = await replayed();
  // Of so many, from as many ports, some are the proxy's.
  const answers = Array.from({ length: 12 }, () =>
    askDns(client, { server: clusterDns4, name, timeoutMs: 12_000 }),
  );
  await waitFor(async () => (await dns.queries(name)).length === answers.length, {
    what: 'the server to be asked',
  });
  // A client that asks again gets nothing; `other` is answered after all of those above.
  const other = `n-2.after-${takenOverMs}.allowed.test`;
  await dns.program([slowRule(takenOverMs, 'n-2.'), { suffix: 'allowed.test', replies: [] }]);
  tandem.signal('proxy', 'SIGSTOP');
  try {
    await waitFor(async () => (await replayed()) > replayedBefore, {
      what: 'the agent to take queries over',
    });
    await askDns(client, { server: clusterDns4, name: other, timeoutMs: 12_000 });
  } finally {
    tandem.signal('proxy', 'SIGCONT');
  }
  const rcodes = (await Promise.all(answers)).map(({ rcode }) => rcode);
  assert.deepEqual(rcodes, Array<string>(answers.length).fill('NOERROR'));
});
