// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { formatAddress, formatPrefix, parseAddress } from '@tandem/core/net/ip';
import { insideNamespace } from '@tandem/testing/inside';
import { Namespace } from '@tandem/testing/namespace';
import { waitFor } from '@tandem/testing/wait';
import {
  AF_INET,
  AF_INET6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  NUD_NOARP,
  NUD_PERMANENT,
  RT_TABLE_MAIN,
  RTN_LOCAL,
  RTPROT_BOOT,
  RTPROT_TANDEM,
} from './constants.ts';
import { NetlinkError } from './errors.ts';
import type { Link } from './link.ts';
import { everyDestination, Rtnetlink } from './rtnetlink.ts';
import { isSameRule, type RuleSpec } from './rule.ts';

const ip = (...commands: readonly string[]): void => {
  execFileSync('ip', ['-batch', '-'], { input: `${commands.join('\n')}\n` });
};
/** One command; the family is no command of a batch. */
const ipOf = (family: string, command: string): void => {
  execFileSync('ip', [family, ...command.split(' ')]);
};
type Json = Readonly<Record<string, unknown>>;
const json = (program: string, ...args: readonly string[]): readonly Json[] => {
  const text = execFileSync(program, ['-j', ...args], { encoding: 'utf8' }).trim();
  return text === '' ? [] : (JSON.parse(text) as readonly Json[]);
};
const macText = (mac: Uint8Array): string =>
  [...mac].map((octet) => octet.toString(16).padStart(2, '0')).join(':');
const address = (text: string): Uint8Array => {
  const parsed = parseAddress(text);
  assert.ok(parsed !== null, text);
  return parsed;
};
const mac = Uint8Array.of(2, 0, 0, 0, 0, 0x11);

insideNamespace(import.meta, () => {
  let pod: Namespace;
  let rtnetlink: Rtnetlink;
  const linkNamed = async (name: string): Promise<Link> => {
    const found = (await rtnetlink.links()).find((link) => link.name === name);
    assert.ok(found !== undefined, name);
    return found;
  };

  before(async () => {
    rtnetlink = new Rtnetlink();
    pod = await Namespace.create('pod');
    ip(
      `link add ptp type veth peer name eth0 netns ${pod.name}`,
      'link set ptp up',
      'link add here type veth peer name there',
      'link add br0 address 02:00:00:00:00:99 type bridge',
      'link set br0 up',
      `link add port type veth peer name eth1 netns ${pod.name}`,
      'link set port master br0 up',
      'addr add 10.2.0.1/24 dev br0',
      'addr add 10.9.0.1 peer 10.9.0.2 dev ptp',
      'addr add fd02::1/64 dev br0 nodad',
      'route add 10.0.0.11 dev ptp',
      'route add 10.0.0.12 via 10.2.0.9',
      'route add default nexthop via 10.2.0.3 nexthop via 10.2.0.4',
      'route add fd00::11 dev ptp metric 7',
      'route add blackhole 10.5.0.0/16',
      'route add 10.0.0.13 dev ptp table 77',
    );
    await pod.ip(['link set eth0 up', 'link set eth1 up', 'addr add 10.2.0.11/24 dev eth1']);
  });
  after(async () => {
    rtnetlink.close();
    await pod[Symbol.asyncDispose]();
  });

  test('interfaces are those of ip: kind, master, hardware address, peer and its namespace', async () => {
    const ours = (await rtnetlink.links()).map((link) => ({
      ifindex: link.ifindex,
      name: link.name,
      kind: link.kind,
      mac: macText(link.mac),
      isUp: link.isUp,
      mtu: link.mtu,
      netns: link.linkNetnsId ?? 'here',
    }));
    const theirs = json('ip', '-d', 'link', 'show').map((link) => ({
      ifindex: link['ifindex'],
      name: link['ifname'],
      kind: (link['linkinfo'] as Json | undefined)?.['info_kind'] ?? '',
      mac: link['address'],
      isUp: (link['flags'] as readonly string[]).includes('UP'),
      mtu: link['mtu'],
      netns: link['link_netnsid'] ?? 'here',
    }));
    assert.deepEqual(ours, theirs);
    const [port, br0, here, there] = await Promise.all(
      ['port', 'br0', 'here', 'there'].map(linkNamed),
    );
    assert.equal(port?.master, br0?.ifindex);
    assert.equal(here?.link, there?.ifindex);
    assert.deepEqual(await rtnetlink.link(here?.ifindex ?? 0), here);
    assert.equal(await rtnetlink.link(9999), null);
  });

  test('qdiscs of classic tc are listed, and counts say whether there is an XDP program', async () => {
    for (const [name, kind] of [
      ['here', 'clsact'],
      ['there', 'ingress'],
    ] as const) {
      execFileSync('tc', ['qdisc', 'add', 'dev', name, kind]);
      const { ifindex } = await linkNamed(name);
      const kinds = (await rtnetlink.qdiscs()).filter((each) => each.ifindex === ifindex);
      assert.ok(
        kinds.some((each) => each.kind === kind),
        JSON.stringify(kinds),
      );
      execFileSync('tc', ['qdisc', 'del', 'dev', name, kind]);
      assert.ok((await rtnetlink.qdiscs()).every((each) => each.kind !== kind));
    }
    assert.ok((await rtnetlink.linkCounts()).every(({ hasXdp }) => !hasXdp));
  });

  test('the number of a network namespace is that of the interfaces that lead there', async () => {
    const fd = openSync(pod.path, 'r');
    const id = await rtnetlink.netnsId(fd);
    closeSync(fd);
    assert.ok(id !== null);
    const leading = (await rtnetlink.links()).filter(({ linkNetnsId }) => linkNetnsId === id);
    assert.deepEqual(leading.map(({ name }) => name).sort(), ['port', 'ptp']);
    await using strange = await Namespace.create('strange');
    const strangeFd = openSync(strange.path, 'r');
    assert.equal(await rtnetlink.netnsId(strangeFd), null);
    closeSync(strangeFd);
    await assert.rejects(rtnetlink.netnsId(1), /EINVAL/);
  });

  test('addresses are those of ip, the own one where there is a peer', async () => {
    const ours = (await rtnetlink.addresses()).map(({ ifindex, address: own, prefixLength }) => [
      ifindex,
      `${formatAddress(own)}/${prefixLength}`,
    ]);
    const theirs = json('ip', 'addr', 'show').flatMap(({ ifindex, addr_info }) =>
      (addr_info as readonly Json[]).map(({ local, prefixlen }) => [
        ifindex,
        `${String(local)}/${String(prefixlen)}`,
      ]),
    );
    assert.deepEqual(ours.sort(), theirs.sort());
  });

  test('routes are those of ip, by table', async () => {
    const named = new Map((await rtnetlink.links()).map(({ ifindex, name }) => [ifindex, name]));
    const ours = (await rtnetlink.routes(RT_TABLE_MAIN)).map((route) => {
      const { destination, ifindexes, hasGateway } = route;
      const isIpv4Default = formatPrefix(destination) === '0.0.0.0/0';
      const text = isIpv4Default ? 'default' : formatPrefix(destination).replace(/\/(32|128)$/, '');
      return [text, ifindexes.map((ifindex) => named.get(ifindex)).join(), hasGateway];
    });
    const theirs = ['-4', '-6'].flatMap((family) =>
      json('ip', family, 'route', 'show').map(({ dst, dev, gateway, nexthops }) => [
        dst,
        (nexthops as readonly Json[] | undefined)?.map((hop) => hop['dev']).join() ?? dev ?? '',
        gateway !== undefined || nexthops !== undefined,
      ]),
    );
    assert.deepEqual(ours.sort(), theirs.sort());
    assert.ok(ours.some(([text]) => text === 'default') && ours.length >= 7);
    const [other] = await rtnetlink.routes(77);
    assert.equal(other === undefined ? '' : formatPrefix(other.destination), '10.0.0.13/32');
    assert.deepEqual(await rtnetlink.routes(4711), [], 'a table that nobody has used');
  });

  test('the route to one address', async () => {
    const ptp = await linkNamed('ptp');
    assert.deepEqual((await rtnetlink.routeTo(address('10.0.0.11')))?.ifindexes, [ptp.ifindex]);
    assert.deepEqual((await rtnetlink.routeTo(address('fd00::11')))?.ifindexes, [ptp.ifindex]);
    assert.equal((await rtnetlink.routeTo(address('10.0.0.12')))?.hasGateway, true);
    assert.equal(await rtnetlink.routeTo(address('2001:db8::1')), null);
  });

  test('routes are made and go', async () => {
    const lo = await linkNamed('lo');
    const table = 2077;
    for (const family of ['IPv4', 'IPv6'] as const) {
      const flag = family === 'IPv4' ? '-4' : '-6';
      const destination = everyDestination(family);
      const route = {
        destination,
        table,
        type: RTN_LOCAL,
        protocol: RTPROT_BOOT,
        ifindex: lo.ifindex,
      };
      await rtnetlink.replaceRoute(route);
      await rtnetlink.replaceRoute(route);
      const text = execFileSync('ip', [flag, 'route', 'show', 'table', '2077'], {
        encoding: 'utf8',
      });
      assert.match(text, /^local default dev lo/);
      assert.equal((await rtnetlink.routes(table)).length, 1);
      assert.equal(await rtnetlink.deleteRoute(route), true);
      assert.equal(await rtnetlink.deleteRoute(route), false);
    }
  });

  test('rules are made as ip makes them, are found again, and go', async () => {
    for (const family of [AF_INET, AF_INET6]) {
      const flag = family === AF_INET ? '-4' : '-6';
      const untouched = json('ip', flag, 'rule', 'show');
      for (const [ipProtocol, name] of [
        [IPPROTO_TCP, 'tcp'],
        [IPPROTO_UDP, 'udp'],
      ] as const) {
        const rule: RuleSpec = {
          family,
          priority: 9,
          table: 2077,
          mark: 0x1000,
          mask: 0x3000,
          ipProtocol,
          sourcePort: null,
          destinationPort: { start: 10_053, end: 10_053 },
        };
        const found = async (): Promise<number> =>
          (await rtnetlink.rules()).filter((each) => isSameRule(each, rule)).length;
        await rtnetlink.addRule(rule);
        const text = execFileSync('ip', [flag, 'rule', 'show'], { encoding: 'utf8' });
        assert.ok(
          text.includes(`fwmark 0x1000/0x3000 ipproto ${name} dport 10053 lookup 2077`),
          text,
        );
        assert.equal(await found(), 1);
        await assert.rejects(rtnetlink.addRule(rule), /add the IPv. routing rule 9 .*EEXIST/);
        assert.equal(await rtnetlink.deleteRule(rule), true);
        assert.equal(await rtnetlink.deleteRule(rule), false);
        const like = `rule add pref 9 fwmark 0x1000/0x3000 ipproto ${name} dport 10053 lookup 2077`;
        ipOf(flag, like);
        assert.equal(await found(), 1, 'made by ip');
        ipOf(flag, like.replace('add', 'del'));
        ipOf(flag, `${like} iif ptp`);
        assert.equal(await found(), 0, 'it looks at more');
        ipOf(flag, `${like.replace('add', 'del')} iif ptp`);
      }
      assert.deepEqual(json('ip', flag, 'rule', 'show'), untouched);
    }
  });

  test('a permanent neighbour and a sticky forwarding entry', async () => {
    const [br0, port] = await Promise.all([linkNamed('br0'), linkNamed('port')]);
    for (const text of ['10.2.0.11', 'fd02::11']) {
      await rtnetlink.setPermanentNeighbor(br0.ifindex, address(text), mac);
      const neighbors = await rtnetlink.neighbors();
      const found = neighbors.find((each) => formatAddress(each.address) === text);
      assert.deepEqual(found, {
        ifindex: br0.ifindex,
        address: address(text),
        mac,
        state: NUD_PERMANENT,
        protocol: RTPROT_TANDEM,
      });
      assert.equal(await rtnetlink.deleteNeighbor(br0.ifindex, address(text)), true);
      assert.equal(await rtnetlink.deleteNeighbor(br0.ifindex, address(text)), false);
    }
    await rtnetlink.setStickyForwarding(port.ifindex, mac);
    const text = execFileSync('bridge', ['fdb', 'show', 'br', 'br0'], { encoding: 'utf8' });
    assert.match(text, /02:00:00:00:00:11 dev port sticky master br0 static/);
    const entry = (await rtnetlink.forwarding()).find((each) => macText(each.mac) === macText(mac));
    assert.equal(entry?.port, port.ifindex);
    assert.equal(entry?.bridge, br0.ifindex);
    assert.equal(entry?.state, NUD_NOARP);
    assert.equal(await rtnetlink.deleteForwarding(port.ifindex, mac), true);
    assert.equal(await rtnetlink.deleteForwarding(port.ifindex, mac), false);
  });

  test('the kernel asks for a neighbour, and forwarding entries are those of bridge', async () => {
    const br0 = await linkNamed('br0');
    await waitFor(
      async () => {
        await rtnetlink.probeNeighbor(br0.ifindex, address('10.2.0.11'));
        return (await rtnetlink.neighbors()).some(
          (each) => formatAddress(each.address) === '10.2.0.11' && each.mac.length === 6,
        );
      },
      { what: 'the neighbour' },
    );
    const named = new Map((await rtnetlink.links()).map(({ ifindex, name }) => [ifindex, name]));
    const ours = (await rtnetlink.forwarding()).map((entry) => [
      macText(entry.mac),
      named.get(entry.port),
      named.get(entry.bridge),
      entry.vlan,
    ]);
    const theirs = json('bridge', 'fdb', 'show')
      .filter(({ master }) => master !== undefined)
      .map((entry) => [entry['mac'], entry['ifname'], entry['master'], entry['vlan'] ?? 0]);
    assert.deepEqual(ours.sort(), theirs.sort());
  });

  test('interfaces are changed', async () => {
    const port = await linkNamed('port');
    await rtnetlink.changeLink(port.ifindex, { isUp: false });
    assert.equal((await linkNamed('port')).isUp, false);
    await rtnetlink.changeLink(port.ifindex, { isUp: true, master: 0 });
    assert.equal((await linkNamed('port')).master, 0);
    const { ifindex: master } = await linkNamed('br0');
    await rtnetlink.changeLink(port.ifindex, { master, mac: Uint8Array.of(2, 0, 0, 0, 0, 0x12) });
    const changed = await linkNamed('port');
    assert.equal(changed.master, master);
    assert.equal(macText(changed.mac), '02:00:00:00:00:12');
  });

  test('an error has the words of the kernel, and the connection works on', async () => {
    const far = { ...everyDestination('IPv4'), bits: 128 };
    const wrong = rtnetlink.replaceRoute({
      destination: far,
      table: 77,
      type: 1,
      protocol: 4,
      ifindex: 9999,
    });
    await assert.rejects(wrong, (error) => {
      assert.ok(error instanceof NetlinkError);
      assert.match(error.message, /^make the route to 0\.0\.0\.0\/32 in table 77: .*\(E[A-Z]+\)/);
      return true;
    });
    const refused = rtnetlink.connection.request({
      attempt: 'dump with a header that strict checking refuses',
      type: 26,
      flags: 0x300,
      payload: Uint8Array.of(2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
    });
    await assert.rejects(refused, (error) => {
      assert.ok(error instanceof NetlinkError && error.kernelText !== '');
      assert.ok(error.message.endsWith(`(EINVAL): ${error.kernelText}`), error.message);
      return true;
    });
    assert.ok((await rtnetlink.links()).length > 3);
    assert.equal(rtnetlink.connection.counters.malformed, 0);
  });

  test('a thousand requests at a time, and what waits when it is closed fails', async () => {
    const connection = new Rtnetlink();
    const all = await Promise.all(Array.from({ length: 1000 }, () => connection.link(1)));
    assert.ok(all.every((link) => link?.name === 'lo'));
    const waiting = Array.from({ length: 3 }, () => connection.links());
    connection.close();
    for (const { status } of await Promise.allSettled(waiting)) assert.equal(status, 'rejected');
    await assert.rejects(connection.links(), /closed/);
  });
});
