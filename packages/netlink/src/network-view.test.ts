// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { formatAddress, parseAddress } from '@tandem/core/net/ip';
import { insideNamespace } from '@tandem/testing/inside';
import { Namespace } from '@tandem/testing/namespace';
import { waitFor } from '@tandem/testing/wait';
import { RTPROT_BOOT } from './constants.ts';
import { NetlinkError } from './errors.ts';
import type { NetworkKind } from './network-state.ts';
import { NetworkView } from './network-view.ts';
import { Rtnetlink } from './rtnetlink.ts';

const ip = (...commands: readonly string[]): void => {
  execFileSync('ip', ['-batch', '-'], { input: `${commands.join('\n')}\n` });
};
const address = (text: string): Uint8Array => {
  const parsed = parseAddress(text);
  assert.ok(parsed !== null, text);
  return parsed;
};
const mac = (last: number): Uint8Array => Uint8Array.of(2, 0, 0, 0, 0, last);

insideNamespace(import.meta, () => {
  let view: NetworkView;
  const told: ReadonlySet<NetworkKind>[] = [];
  const ifindex = (name: string): number => {
    const link = view.state.linkByName(name);
    assert.ok(link !== undefined, name);
    return link.ifindex;
  };
  const isIn = (set: Iterable<{ readonly address: Uint8Array }>, text: string): boolean =>
    [...set].some((each) => formatAddress(each.address) === text);

  before(async () => {
    ip(
      'link set lo up',
      'link add br0 type bridge',
      // A bridge that loses its last port has no carrier: the kernel drops its neighbours up to a second later.
      'link add port0 type veth peer name end0',
      'link set end0 up',
      'link set port0 master br0 up',
      'link set br0 up',
      'addr add 10.2.0.1/24 dev br0',
    );
    view = await NetworkView.open({ tables: [77] });
    view.onChange((kinds) => void told.push(kinds));
  });
  after(() => view.close());

  test('it catches up with what was changed just before, and asks the kernel nothing', async () => {
    const { reads } = view.counters;
    ip('link add late0 type veth peer name late1', 'link set late0 master br0');
    assert.equal(view.state.linkByName('late0'), undefined);
    await view.catchUp('links');
    assert.equal(view.state.linkByName('late0')?.master, ifindex('br0'));
    ip('link del late0', 'link add late0 type bridge');
    await view.catchUp('links');
    assert.equal(view.state.linkByName('late0')?.kind, 'bridge');
    ip('link del late0');
    await view.catchUp('links');
    assert.equal(view.state.linkByName('late0'), undefined);
    assert.equal(view.counters.reads, reads);
  });

  /** Each: a change, the report, and what the view then says. */
  const changes: readonly (readonly [
    name: string,
    commands: readonly string[],
    kind: NetworkKind,
    isSeen: () => boolean,
  ])[] = [
    [
      'an interface comes',
      ['link add v0 type veth peer name v1'],
      'links',
      () => view.state.linkByName('v0')?.kind === 'veth',
    ],
    [
      'it goes up',
      ['link set v0 up', 'link set v1 up'],
      'links',
      () => view.state.linkByName('v0')?.isUp === true,
    ],
    [
      'it gets another name',
      ['link set v1 down', 'link set v1 name v9', 'link set v9 up'],
      'links',
      () => view.state.linkByName('v9') !== undefined,
    ],
    [
      'it becomes a port',
      ['link set v9 master br0'],
      'links',
      () => view.state.linkByName('v9')?.master === ifindex('br0'),
    ],
    [
      'an address comes',
      ['addr add 10.3.0.1/24 dev v0'],
      'addresses',
      () => isIn(view.state.addresses, '10.3.0.1'),
    ],
    [
      'an address goes',
      ['addr del 10.3.0.1/24 dev v0'],
      'addresses',
      () => !isIn(view.state.addresses, '10.3.0.1'),
    ],
    [
      'a host route comes',
      ['route add 10.0.0.11 dev v0 metric 9'],
      'routes',
      () => view.state.routes.hosts.get('10.0.0.11') === ifindex('v0'),
    ],
    [
      'a better one comes',
      ['route add 10.0.0.11 dev br0 metric 8'],
      'routes',
      () => view.state.routes.hosts.get('10.0.0.11') === ifindex('br0'),
    ],
    [
      'it goes',
      ['route del 10.0.0.11 dev br0'],
      'routes',
      () => view.state.routes.hosts.get('10.0.0.11') === ifindex('v0'),
    ],
    [
      'it is replaced',
      ['route replace 10.0.0.11 dev br0 metric 9'],
      'routes',
      () => view.state.routes.hosts.get('10.0.0.11') === ifindex('br0'),
    ],
    [
      'a default route comes',
      ['route add default via 10.2.0.3'],
      'routes',
      () => view.state.routes.waysOut.get(ifindex('br0'))?.has(RTPROT_BOOT) === true,
    ],
    [
      'a route of a table that is kept comes',
      ['route add 10.9.0.0/16 dev v0 table 77'],
      'routes',
      () => view.state.routes.of(77).length === 1,
    ],
    [
      'its interface goes down, and with it the route',
      ['link set v0 down'],
      'routes',
      () => view.state.routes.of(77).length === 0,
    ],
    [
      'an IPv6 host route comes',
      ['link set v0 up', 'route add fd00::11 dev v0'],
      'routes',
      () => view.state.routes.hosts.get('fd00::11') === ifindex('v0'),
    ],
    [
      'a rule comes',
      ['rule add pref 9 fwmark 0x40 lookup 77'],
      'rules',
      () => view.state.rules.some(({ priority }) => priority === 9),
    ],
    [
      'a rule goes',
      ['rule del pref 9'],
      'rules',
      () => !view.state.rules.some(({ priority }) => priority === 9),
    ],
    [
      'a neighbour comes',
      ['neigh add 10.2.0.11 lladdr 02:00:00:00:00:11 dev br0 nud reachable'],
      'neighbors',
      () => view.state.neighbor(ifindex('br0'), address('10.2.0.11'))?.mac[5] === 0x11,
    ],
    [
      'a neighbour moves',
      ['neigh replace 10.2.0.11 lladdr 02:00:00:00:00:12 dev br0 nud reachable'],
      'neighbors',
      () => view.state.neighbor(ifindex('br0'), address('10.2.0.11'))?.mac[5] === 0x12,
    ],
    [
      'a neighbour goes',
      ['neigh del 10.2.0.11 dev br0'],
      'neighbors',
      () => view.state.neighbor(ifindex('br0'), address('10.2.0.11')) === undefined,
    ],
    [
      'an interface goes',
      ['link del v0'],
      'links',
      () => view.state.linkByName('v9') === undefined,
    ],
    ['and its routes with it', [], 'routes', () => !view.state.routes.hosts.has('fd00::11')],
  ];

  test('every change is in the view and is told', async () => {
    for (const [name, commands, kind, isSeen] of changes) {
      const isToldFrom = commands.length === 0 ? 0 : told.length;
      if (commands.length > 0) ip(...commands);
      await waitFor(isSeen, { what: name });
      const isTold = (): boolean => told.slice(isToldFrom).some((kinds) => kinds.has(kind));
      await waitFor(isTold, { what: `${name}: ${kind} are told` });
    }
  });

  test('an address that an interface has for two peers is there until it has none of them', async () => {
    const has = (): boolean => isIn(view.state.addresses, '10.4.0.1');
    const peers = ['10.4.0.2', '10.4.0.3'].map((peer) => `10.4.0.1 peer ${peer} dev br0`);
    ip(...peers.map((each) => `addr add ${each}`));
    await waitFor(has, { what: 'the address' });
    for (const [i, each] of peers.entries()) {
      const from = told.length;
      ip(`addr del ${each}`);
      await waitFor(() => told.slice(from).some((kinds) => kinds.has('addresses')), {
        what: 'that a peer went',
      });
      assert.equal(has(), i === 0);
    }
  });

  test('a forwarding entry comes, moves and goes', async () => {
    ip(
      // Two pairs, for both ends of one in a bridge are a loop, in which a frame goes round for ever.
      'link add p0 type veth peer name x0',
      'link add p1 type veth peer name x1',
      'link set x0 up',
      'link set x1 up',
      'link set p0 master br0 up',
      'link set p1 master br0 up',
    );
    const at = (port: string): Promise<unknown> =>
      waitFor(() => view.state.forwardingEntry(ifindex('br0'), mac(5))?.port === ifindex(port), {
        what: `it is at ${port}`,
      });
    const fdb = (...args: readonly string[]): unknown => execFileSync('bridge', ['fdb', ...args]);
    // A port whose carrier the kernel has not noticed yet is disabled, and takes no dynamic entry (EPERM).
    const isForwarding = (port: string): boolean =>
      execFileSync('bridge', ['link', 'show', 'dev', port]).includes('state forwarding');
    await waitFor(() => isForwarding('p0') && isForwarding('p1'), { what: 'the ports forward' });
    fdb('replace', '02:00:00:00:00:05', 'dev', 'p0', 'master', 'dynamic');
    await at('p0');
    fdb('replace', '02:00:00:00:00:05', 'dev', 'p1', 'master', 'dynamic');
    await at('p1');
    fdb('del', '02:00:00:00:00:05', 'dev', 'p1', 'master');
    await waitFor(() => view.state.forwardingEntry(ifindex('br0'), mac(5)) === undefined, {
      what: 'it is gone',
    });
    ip('link del p0', 'link del p1');
  });

  test('an interface whose peer leaves for another namespace says where the peer is', async () => {
    await using pod = await Namespace.create('pod');
    ip('link add host0 type veth peer name eth0');
    await waitFor(
      () =>
        view.state.linkByName('eth0') !== undefined &&
        view.state.linkByName('host0')?.link === ifindex('eth0'),
      {
        what: 'the pair is here',
      },
    );
    assert.equal(view.state.linkByName('host0')?.linkNetnsId, null);
    ip(`link set eth0 netns ${pod.name}`);
    const host = await waitFor(
      () => [view.state.linkByName('host0')].find((link) => link?.linkNetnsId !== null),
      { what: 'the peer is elsewhere' },
    );
    const names = view.state.linksOfNetns(host.linkNetnsId ?? -1).map(({ name }) => name);
    assert.deepEqual(names, ['host0']);
    ip('link del host0');
  });

  test('a namespace that gets a number is no reason to list interfaces, if none lacks one', async (t) => {
    await using first = await Namespace.create('first');
    await using second = await Namespace.create('second');
    const place = (host: string, { name }: Namespace): Promise<unknown> => {
      ip(`link add ${host} type veth peer name eth0 netns ${name}`);
      const number = (): number | null | undefined => view.state.linkByName(host)?.linkNetnsId;
      return waitFor(() => typeof number() === 'number', { what: `${host} with its peer` });
    };
    await place('host1', first);
    await view.refresh();
    const lists = t.mock.method(view.rtnetlink, 'links');
    const { notices } = view.counters;
    await place('host2', second);
    // Its own notices, and that of the number.
    await waitFor(() => view.counters.notices >= notices + 2, { what: 'the notices' });
    ip('addr add 10.2.0.99/32 dev host2');
    await waitFor(() => isIn(view.state.addresses, '10.2.0.99'), { what: 'a later change' });
    assert.equal(lists.mock.callCount(), 0);
    ip('link del host1', 'link del host2');
  });

  test('where nothing changes nothing is read or told', async () => {
    await view.refresh();
    // What the test before changed has been read when nothing was for a while.
    let reads = -1;
    let since = performance.now();
    await waitFor(
      () => {
        if (view.counters.reads !== reads) since = performance.now();
        ({ reads } = view.counters);
        return performance.now() - since > 300;
      },
      { what: 'the last read' },
    );
    const from = told.length;
    // A neighbour that becomes stale is a notice, and no news.
    ip('neigh add 10.2.0.12 lladdr 02:00:00:00:00:12 dev br0 nud reachable');
    await waitFor(() => told.length > from, { what: 'the neighbour is told' });
    const { notices } = view.counters;
    ip('neigh change 10.2.0.12 lladdr 02:00:00:00:00:12 dev br0 nud stale');
    await waitFor(() => view.counters.notices > notices, { what: 'its new state is noticed' });
    ip('neigh add 10.2.0.13 lladdr 02:00:00:00:00:13 dev br0 nud permanent');
    await waitFor(() => told.length === from + 2, {
      what: 'the next neighbour is told, and nothing else',
    });
    assert.equal(view.counters.reads, reads);
  });

  test('notices that were lost: everything is read again', async () => {
    using small = await NetworkView.open({ receiveBufferBytes: 4096 });
    const commands = Array.from(
      { length: 500 },
      (_, i) => `addr add 10.77.${i >> 8}.${i & 255}/32 dev lo`,
    );
    // Synchronous: this process reads nothing meanwhile.
    ip(...commands, 'link add late0 type bridge', 'rule add pref 11 fwmark 0x100 lookup 77');
    await waitFor(() => small.counters.overruns > 0, { what: 'an overrun' });
    await waitFor(
      () =>
        isIn(small.state.addresses, '10.77.1.243') &&
        small.state.linkByName('late0') !== undefined &&
        small.state.rules.some(({ priority }) => priority === 11),
      { what: 'all of it' },
    );
    assert.ok([...small.state.addresses].length >= 500);
    assert.equal(small.problems.size, 0);
    ip(
      'link del late0',
      'rule del pref 11',
      ...commands.map((each) => each.replace('addr add', 'addr del')),
    );
  });

  test('a dump that changes interrupt is made again, and is whole', async () => {
    using rtnetlink = new Rtnetlink();
    const count = 3000;
    ip(...Array.from({ length: count }, (_, i) => `addr add 10.78.${i >> 8}.${i & 255}/32 dev lo`));
    const churn = Array.from({ length: 20_000 }, (_, i) => {
      const what = i % 2 === 0 ? 'add' : 'del';
      return `addr ${what} 10.79.0.1/32 dev lo\n`;
    });
    const child = spawn('ip', ['-batch', '-'], { stdio: ['pipe', 'ignore', 'ignore'] });
    child.stdin.on('error', () => undefined);
    child.stdin.end(churn.join(''));
    const { counters } = rtnetlink.connection;
    await waitFor(
      async () => {
        try {
          const found = await rtnetlink.addresses();
          const whole = found.filter((each) => formatAddress(each.address).startsWith('10.78.'));
          assert.equal(whole.length, count);
        } catch (error) {
          // So many changes that not even the last attempt was left alone.
          if (!(error instanceof NetlinkError) || error.errnoName !== 'EINTR') throw error;
        }
        return counters.interruptedDumps > 0 || child.exitCode !== null;
      },
      { what: 'an interrupted dump' },
    );
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    assert.ok(counters.interruptedDumps > 0);
  });
});
