// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The table of redirects in a kernel of its own: what is in it, and that it is what was asked for again after faults. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createSocket, type RemoteInfo, type Socket, type SocketType } from 'node:dgram';
import { once } from 'node:events';
import { after, test } from 'node:test';
import { parseAddress } from '@tandem/core/net/ip';
import type { Redirect } from '@tandem/core/policy/model/redirect';
import { silentLogger } from '@tandem/runtime/log';
import { insideNamespace } from '@tandem/testing/inside';
import { waitFor } from '@tandem/testing/wait';
import type { AttachedEndpoint } from '../endpoint/attacher.ts';
import { RedirectStack, removeRedirects } from './redirect-stack.ts';

const bytesOf = (text: string): Uint8Array => parseAddress(text) as Uint8Array;
const shown = (): string => {
  try {
    const list = ['list', 'table', 'inet', 'tandem_redirect'];
    return execFileSync('nft', list, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return '';
  }
};

function redirectOf(
  frontend: string,
  backends: readonly string[],
  rest: Partial<Redirect> = {},
): Redirect {
  const places = backends.map((address, i) => ({
    ...{ address: bytesOf(address), port: 1053, pod: `kube-system/cache-${i}` },
  }));
  return {
    subject: 'CiliumLocalRedirectPolicy/kube-system/cache',
    namespace: 'kube-system',
    address: bytesOf(frontend),
    port: 53,
    protocol: 17,
    backends: places,
    ending: [],
    selected: places,
    isAddress: false,
    isAskedByName: false,
    labels: new Map(),
    backendPort: 1053,
    ...rest,
  };
}
const endpointOf = (name: string, l3Ifindex: number, isBridged: boolean): AttachedEndpoint =>
  ({
    pod: { namespace: 'kube-system', name, uid: name },
    address: bytesOf(isBridged ? '10.1.0.6' : '10.1.0.5'),
    interface: { l3Ifindex, isBridged },
  }) as AttachedEndpoint;
const endpoints = [endpointOf('cache-0', 7, false), endpointOf('cache-1', 8, true)];
const one = redirectOf('10.96.0.10', ['10.1.0.5']);

const conntrackFamilies = [
  {
    type: 'udp4',
    prefix: 32,
    frontend: '192.0.2.10',
    pod: '10.9.0.1',
    member: '10.9.0.2',
    ending: '10.9.0.5',
    other: '10.9.0.6',
  },
  {
    type: 'udp6',
    prefix: 128,
    frontend: '2001:db8::10',
    pod: 'fd00:9::1',
    member: 'fd00:9::2',
    ending: 'fd00:9::5',
    other: 'fd00:9::6',
  },
] as const;

async function clientOf(type: SocketType, address: string): Promise<Socket> {
  const client = createSocket(type).bind(0, address);
  await once(client, 'listening');
  return client;
}

/** Sends a datagram to the frontend; gives the server that has it. */
async function askedServer(
  client: Socket,
  frontend: string,
  servers: readonly Socket[],
): Promise<Socket> {
  const arrivals = new AbortController();
  const { signal } = arrivals;
  const asked = servers.map(async (server) => {
    await once(server, 'message', { signal });
    return server;
  });
  client.send('x', 53, frontend);
  const server = await Promise.race(asked);
  arrivals.abort();
  await Promise.allSettled(asked);
  return server;
}

/** The server hears from the client once more and answers, and conntrack has seen it. */
async function answerTo(client: Socket, server: Socket, frontend: string): Promise<void> {
  const heard = once(server, 'message');
  client.send('x', 53, frontend);
  const [, { port, address }] = (await heard) as [Buffer, RemoteInfo];
  const answer = once(client, 'message');
  server.send('y', port, address);
  await answer;
}

insideNamespace(import.meta, () => {
  const made: RedirectStack[] = [];
  /** One at a time, as agents have their lease. */
  const start = async (): Promise<RedirectStack> => {
    await made.at(-1)?.stop();
    const nameOf = (ifindex: number): string | undefined =>
      new Map([
        [7, 'veth7'],
        [8, 'cni0'],
        [9, 'veth*'],
        [10, 'veth10'],
      ]).get(ifindex);
    const stack = new RedirectStack({ memberUids: [0, 65_532], nameOf, log: silentLogger() });
    made.push(stack);
    return stack;
  };
  after(async () => {
    for (const stack of made) await stack.stop();
  });

  test('frontends of both families lead to their backends, whose own interfaces are left out', async () => {
    const stack = await start();
    const both = ['10.1.0.5', '10.1.0.6'];
    await stack.apply(
      [redirectOf('10.96.0.10', both), redirectOf('fd00:96::10', ['fd00:1::5'], { protocol: 6 })],
      endpoints,
    );
    const text = shown().replaceAll(/\s+/g, ' ');
    assert.match(
      text,
      /dnat ip to numgen random mod 2 map \{ 0 : 10\.1\.0\.5 \. 1053, 1 : 10\.1\.0\.6 \. 1053 \}/,
    );
    assert.match(text, /tcp dnat ip6 to numgen random mod 1 map \{ 0 : fd00:1::5 \. 1053 \}/);
    assert.match(text, /set loop_0 \{ type ifname elements = \{ "veth7" \}/);
    assert.match(
      text,
      /set loop4_0 \{ type ifname \. ipv4_addr elements = \{ "cni0" \. 10\.1\.0\.6 \}/,
    );
    assert.deepEqual(stack.counts, { active: 2, waiting: 0 });
    assert.match(
      stack.notes.join(),
      /cache leads 10\.96\.0\.10 port 53\/UDP, .* to kube-system\/cache-0, kube-system\/cache-1$/,
    );
    assert.deepEqual(stack.degradations, []);
  });

  test('a policy leaves its own backends alone, and takes those of others', async () => {
    const stack = await start();
    const subject = 'CiliumLocalRedirectPolicy/shop/mine';
    const mine = [{ address: bytesOf('10.1.0.9'), port: 80, pod: 'shop/mine' }];
    await stack.apply(
      [
        redirectOf('10.96.0.77', [], { subject, backends: mine, selected: mine }),
        redirectOf('192.0.2.9', ['10.1.0.5', '10.1.0.6']),
      ],
      [
        ...endpoints,
        {
          pod: { namespace: 'shop', name: 'mine', uid: 'mine' },
          address: bytesOf('10.1.0.9'),
          interface: { l3Ifindex: 10, isBridged: false },
        } as AttachedEndpoint,
      ],
    );
    const text = shown().replaceAll(/\s+/g, ' ');
    const chains = [...text.matchAll(/chain to_\d \{(.*?)numgen/g)].map(([, rules]) => rules ?? '');
    assert.equal(chains.length, 2);
    const [ofMine = '', ofOthers = ''] = chains;
    assert.match(ofMine, /iifname @loop_0 return/);
    assert.doesNotMatch(ofMine, /loop_1|saddr/);
    assert.match(ofOthers, /iifname @loop_1 return iifname \. ip saddr @loop4_1 return/);
    assert.doesNotMatch(ofOthers, /loop_0/);
    assert.match(text, /set loop_0 \{ type ifname elements = \{ "veth10" \}/);
    assert.match(text, /set loop_1 \{ type ifname elements = \{ "veth7" \}/);
  });

  test('a rule that leaves a backend alone is put back', async () => {
    const stack = await start();
    await stack.apply([one], endpoints);
    execFileSync('nft', ['flush', 'chain', 'inet', 'tandem_redirect', 'to_0']);
    await waitFor(() => shown().includes('iifname @loop_0 return'), {
      what: 'the rule to be back',
    });
  });

  test('a backend whose interface is not known is none yet', async () => {
    const stack = await start();
    await stack.apply([redirectOf('10.96.0.10', ['10.1.0.5', '10.1.0.6'])], endpoints.slice(0, 1));
    assert.match(shown(), /mod 1 map \{ 0 : 10\.1\.0\.5 /);
    await stack.apply([one], []);
    assert.equal(shown(), '');
    await stack.apply([one], [endpointOf('cache-0', 9, false)]);
    assert.equal(shown(), '', 'by its name others would be taken for it');
    assert.deepEqual(stack.counts, { active: 0, waiting: 1 });
    assert.match(stack.notes.join(), /cache has no ready pod on this node/);
  });

  test('members ask DNS frontends alone, and none that would lead to whom they ask for', async () => {
    const stack = await start();
    const metadata = redirectOf('192.0.2.9', ['10.1.0.5'], { port: 80, protocol: 6 });
    await stack.apply(
      [one, metadata, redirectOf('192.0.2.8', ['10.1.0.5'], { isAskedByName: true })],
      endpoints,
    );
    const [, members = ''] = /map members4 \{([^}]*\}[^}]*)\}/.exec(shown()) ?? [];
    assert.match(members, /10\.96\.0\.10/);
    assert.doesNotMatch(members, /192\.0\.2/);
  });

  test('members go past redirects to Services alone: to an address no socket of theirs is excepted', async () => {
    const stack = await start();
    await stack.apply([one, redirectOf('192.0.2.9', ['10.1.0.5'], { isAddress: true })], endpoints);
    const [, output = ''] = /chain output \{([^}]*\}[^}]*)\}/.exec(shown()) ?? [];
    const at = ['@addresses4', '@addresses6', 'meta priority', '@members4'].map((each) =>
      output.indexOf(each),
    );
    assert.ok(!at.includes(-1), output);
    assert.deepEqual(
      at,
      at.toSorted((left, right) => left - right),
    );
    const [, addresses = ''] = /map addresses4 \{([^}]*\}[^}]*)\}/.exec(shown()) ?? [];
    assert.match(addresses, /192\.0\.2\.9/);
    assert.doesNotMatch(addresses, /10\.96/);
  });

  test('what nobody changed is not written; what somebody changed is, at once', async () => {
    const stack = await start();
    await stack.apply([one], endpoints);
    await stack.ensure();
    await stack.apply([one], endpoints);
    assert.equal(stack.counters.written, 1);
    execFileSync('nft', ['flush', 'chain', 'inet', 'tandem_redirect', 'prerouting']);
    await waitFor(() => shown().includes('vmap @redirect4'), { what: 'the chain to be mended' });
    await waitFor(() => stack.counters.mended === 1, { what: 'that to be counted' });
    execFileSync('nft', ['flush', 'ruleset']);
    await waitFor(() => shown().includes('vmap @redirect4'), { what: 'the table to be back' });
  });

  for (const family of conntrackFamilies) {
    test(`${family.type}: what a backend that ends has answered to pods is led to it no more; all else is, until it is gone`, async () => {
      const { type, prefix, frontend, pod, member, ending, other } = family;
      for (const address of [pod, member, ending, other]) {
        const nodad = prefix === 128 ? ['nodad'] : [];
        execFileSync('ip', ['addr', 'replace', `${address}/${prefix}`, 'dev', 'lo', ...nodad]);
      }
      execFileSync('ip', ['link', 'set', 'lo', 'up']);
      execFileSync('ip', ['route', 'replace', `${frontend}/${prefix}`, 'dev', 'lo', 'src', member]);
      const stack = await start();
      const known = [
        ...endpoints,
        { ...endpointOf('asks', 10, false), address: bytesOf(pod) } as AttachedEndpoint,
      ];
      const before = redirectOf(frontend, [ending]);
      await stack.apply([before], known);
      // With what the table before led elsewhere.
      const { forgotten } = stack.counters;
      const servers = [createSocket(type), createSocket(type)] as const;
      const [first, second] = servers;
      first.bind(1053, ending);
      second.bind(1053, other);
      await Promise.all(servers.map((server) => once(server, 'listening')));
      const answered = await clientOf(type, pod);
      const waiting = await clientOf(type, pod);
      const ofMember = await clientOf(type, member);
      try {
        for (const client of [answered, waiting, ofMember]) {
          assert.equal(await askedServer(client, frontend, servers), first);
        }
        for (const client of [answered, ofMember]) await answerTo(client, first, frontend);
        const moved = { ...redirectOf(frontend, [other]), ending: [bytesOf(ending)] };
        await stack.apply([moved], known);
        assert.equal(stack.counters.forgotten - forgotten, 1);
        assert.equal(await askedServer(answered, frontend, servers), second, 'led anew');
        assert.equal(await askedServer(waiting, frontend, servers), first, 'waits for its answer');
        assert.equal(await askedServer(ofMember, frontend, servers), first, 'sees to it itself');
        await answerTo(waiting, first, frontend);
        await stack.apply([moved], known);
        await stack.ensure();
        assert.equal(stack.counters.forgotten - forgotten, 1, 'once for each backend that ends');
        await stack.apply([redirectOf(frontend, [other])], known);
        assert.equal(stack.counters.forgotten - forgotten, 3);
        for (const client of [waiting, ofMember]) {
          assert.equal(await askedServer(client, frontend, servers), second, 'it is gone');
        }
      } finally {
        for (const socket of [...servers, answered, waiting, ofMember]) socket.close();
      }
    });
  }

  test('the next agent takes over what is in force, and takes away what is no longer asked for', async () => {
    await (await start()).apply([one], endpoints);
    const next = await start();
    await next.apply([], []);
    assert.equal(shown(), '');
    await next.apply([one], endpoints);
    await next.stop();
    await removeRedirects();
    assert.equal(shown(), '');
    await removeRedirects();
  });

  test('what nft refuses is a degradation until it takes it, and what was in force stays', async () => {
    const stack = await start();
    await stack.apply([one], endpoints);
    const before = shown();
    const path = process.env['PATH'];
    process.env['PATH'] = '/nowhere';
    await stack.apply([], endpoints);
    assert.deepEqual(
      stack.degradations.map(({ code }) => code),
      ['redirect-failed'],
    );
    process.env['PATH'] = path;
    assert.equal(shown(), before);
    await stack.ensure();
    assert.deepEqual(stack.degradations, []);
    assert.equal(shown(), '');
  });
});
