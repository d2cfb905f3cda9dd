// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { insideNamespace } from '@tandem/testing/inside';
import { Namespace } from '@tandem/testing/namespace';
import { waitFor } from '@tandem/testing/wait';
import { ArpGuard, acceptFormerMark, removeArpTables, type TrustedPort } from './arp-guard.ts';

const mark = 0x1000;
const run = (program: string, ...args: readonly string[]): string =>
  execFileSync(program, args, { encoding: 'utf8' });
const nft = (...args: readonly string[]): string => run('nft', ...args);
const ip = (...commands: readonly string[]): void => {
  execFileSync('ip', ['-batch', '-'], { input: `${commands.join('\n')}\n` });
};

/** By port: the bridge and what its pod has as address. */
const ports = {
  stranger: ['cni0', '10.2.0.11'],
  known: ['cni0', '10.2.0.12'],
  'router.100': ['cni0', '10.2.0.13'],
  docker: ['docker0', '10.3.0.11'],
} as const;
type Port = keyof typeof ports;

insideNamespace(import.meta, () => {
  const pods = new Map<Port, Namespace>();
  const guard = new ArpGuard(mark);
  const portOf = (name: string): TrustedPort => ({
    name,
    ifindex: Number(/^\d+/.exec(run('ip', '-o', 'link', 'show', name))?.[0]),
  });
  const makeRouter = (): void => {
    ip(
      `link add router.100 type veth peer name eth0 netns ${pods.get('router.100')?.name}`,
      'link set router.100 master cni0 up',
    );
  };

  /** Whether what the pod sends to its gateway makes an entry at the node. */
  const isHeard = (port: Port): boolean => {
    const [bridge, address] = ports[port];
    return run('ip', 'neigh', 'show', address, 'dev', bridge).includes('lladdr');
  };
  /** The kernel asks for its gateway three times, a second apart. */
  const speak = async (port: Port): Promise<void> => {
    const gateway = ports[port][0] === 'cni0' ? '10.2.0.1' : '10.3.0.1';
    await pods.get(port)?.run('bash', ['-c', `echo x >/dev/udp/${gateway}/9 || true`]);
  };
  const dropped = (): number =>
    Number(/counter packets (\d+)/.exec(nft('list', 'chain', 'arp', 'tandem', 'strangers'))?.[1]);

  before(async () => {
    ip(
      ...['cni0', 'docker0'].flatMap((name) => [
        `link add ${name} type bridge`,
        `link set ${name} up`,
      ]),
      'addr add 10.2.0.1/24 dev cni0',
      'addr add 10.3.0.1/24 dev docker0',
    );
    for (const [port, [bridge, address]] of Object.entries(ports)) {
      // oxlint-disable-next-line no-await-in-loop -- few
      const pod = await Namespace.create(port.slice(0, 4));
      ip(
        `link add ${port} type veth peer name eth0 netns ${pod.name}`,
        `link set ${port} master ${bridge} up`,
      );
      // oxlint-disable-next-line no-await-in-loop -- as above
      await pod.ip(['link set eth0 up', `addr add ${address}/24 dev eth0`]);
      pods.set(port as Port, pod);
    }
    // As from_pod does in ARP that it verified.
    execFileSync('nft', ['-f', '-'], {
      input: `table netdev pod { chain known {
        type filter hook ingress device known priority -1; meta protocol arp meta mark set ${mark}
      }\n}\n`,
    });
  });
  after(async () => {
    for (const pod of pods.values()) await pod[Symbol.asyncDispose]();
  });

  test('before pods have their programs nothing is dropped, and without bridges of pods there is no table', async () => {
    const tables = nft('list', 'tables');
    assert.equal(await guard.ensure(), false);
    guard.set({ podBridges: [], trustedPorts: [] });
    assert.equal(await guard.ensure(), false);
    assert.equal(nft('list', 'tables'), tables);
  });

  test('at bridges of pods only verified ARP and that of trusted ports reaches the node', async () => {
    const guarded = { podBridges: ['cni0', 'cni1'], trustedPorts: [portOf('router.100')] };
    assert.equal(guard.set(guarded), true);
    assert.equal(await guard.ensure(), false);
    assert.equal(guard.set(guarded), false, 'nothing has changed');
    await speak('stranger');
    await waitFor(() => dropped() > 0, { what: 'a drop' });
    for (const port of ['known', 'router.100', 'docker'] as const) {
      // oxlint-disable-next-line no-await-in-loop -- few
      await speak(port);
      // oxlint-disable-next-line no-await-in-loop -- as above
      await waitFor(() => isHeard(port), { what: `an entry of ${port}` });
    }
    assert.equal(isHeard('stranger'), false);
  });

  test('what another process changes is put back, and what is right is not written again', async () => {
    assert.equal(await guard.ensure(), false);
    const made = nft('--stateless', 'list', 'ruleset');
    const changes = [
      'delete table arp tandem',
      'flush chain arp tandem strangers',
      'insert rule arp tandem strangers accept',
      'chain arp tandem strangers { policy drop; }',
      'delete table netdev tandem',
      'add table arp tandem { flags dormant; }',
      'insert rule netdev tandem trusted accept',
      'add chain arp tandem other { type filter hook input priority -1; policy accept; }',
    ];
    for (const change of changes) {
      nft(change);
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      assert.equal(await guard.ensure(), true, change);
      assert.equal(nft('--stateless', 'list', 'ruleset'), made, change);
    }
    nft('add table arp other');
    assert.equal(await guard.ensure(), false, 'tables of others');
    nft('delete table arp other');
  });

  test('tables that another program removes just after they were written are an error, and written again', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tandem-nft-'));
    const path = process.env['PATH'] ?? '';
    const found = run('sh', '-c', 'command -v nft').trim();
    const script = `#!/bin/sh\n${found} "$@" || exit\nif [ "$1" = -f ]; then ${found} delete table arp tandem; fi\n`;
    writeFileSync(join(directory, 'nft'), script, { mode: 0o755 });
    nft('delete', 'table', 'arp', 'tandem');
    process.env['PATH'] = `${directory}:${path}`;
    try {
      await assert.rejects(guard.ensure(), /another program changes them/);
      await assert.rejects(guard.ensure(), /another program changes them/, 'again');
    } finally {
      process.env['PATH'] = path;
      rmSync(directory, { recursive: true });
    }
    assert.equal(await guard.ensure(), true);
    assert.match(nft('list', 'tables'), /table arp tandem/);
  });

  test('a trusted port that is made again under its name is trusted again', async () => {
    ip('link delete router.100');
    makeRouter();
    await pods.get('router.100')?.ip(['link set eth0 up', 'addr add 10.2.0.14/24 dev eth0']);
    const again = { podBridges: ['cni0', 'cni1'], trustedPorts: [portOf('router.100')] };
    assert.equal(guard.set(again), true);
    assert.equal(await guard.ensure(), false, 'no other process did it');
    await pods.get('router.100')?.run('bash', ['-c', 'echo x >/dev/udp/10.2.0.1/9 || true']);
    await waitFor(() => run('ip', 'neigh', 'show', '10.2.0.14').includes('lladdr'), {
      what: 'an entry of it',
    });
  });

  test('any name that nft can have is guarded, and one that it cannot have stops no other', async () => {
    const named = ['a{$x', 'b*c', String.raw`d\e`, 'é[1'];
    const many = Array.from({ length: 260 }, (_, at) => `many${at}`);
    ip(...many.map((name) => `link add ${name} type bridge`));
    for (const name of [...named, '"q']) run('ip', 'link', 'add', name, 'type', 'bridge');
    const odd = [...named, ...many, '"q'].map(portOf);
    guard.set({ podBridges: ['cni0', ...named, 'x*'], trustedPorts: odd });
    await assert.rejects(guard.ensure(), /cannot name the interface x\*, "q$/);
    const made = nft('--stateless', 'list', 'ruleset');
    for (const name of named) assert.ok(made.includes(`iifname "${name}" meta mark`), name);
    for (const name of [...named, ...many]) assert.ok(made.includes(` ${name}`), name);
    guard.set({ podBridges: ['cni0', ...named], trustedPorts: odd.slice(0, -1) });
    assert.equal(await guard.ensure(), false);
    assert.equal(nft('--stateless', 'list', 'ruleset'), made, 'was right');
  });

  test('while the mark changes both bits pass, and nothing without one', async () => {
    const guarded = { podBridges: ['cni0'], trustedPorts: [portOf('router.100')] };
    guard.set(guarded);
    await guard.ensure();
    const [written, others] = [nft('list', 'table', 'netdev', 'tandem'), dropped()];
    await acceptFormerMark(mark, 0x40);
    assert.match(nft('list', 'table', 'arp', 'tandem'), /"cni0" meta mark & 0x0*1040 == 0x0+ /);
    assert.equal(nft('list', 'table', 'netdev', 'tandem'), written);
    assert.equal(others, 0, 'counters are new');
    for (const port of ['stranger', 'known'] as const)
      await pods.get(port)?.ip(['neigh flush all']);
    ip('neigh flush dev cni0');
    await speak('stranger');
    await waitFor(() => dropped() > 0, { what: 'a drop' });
    await speak('known');
    await waitFor(() => isHeard('known'), { what: 'an entry of a known pod' });
    const later = new ArpGuard(0x40);
    later.set(guarded);
    await later.ensure();
    assert.match(nft('list', 'table', 'arp', 'tandem'), /"cni0" meta mark & 0x0*40 == 0x0+ /);
    await acceptFormerMark(0x80, 0x20);
    assert.doesNotMatch(nft('list', 'tables'), /tandem/, 'a table that tests no former bit');
    guard.set({ podBridges: [], trustedPorts: [] });
    await guard.ensure();
    guard.set(guarded);
    await guard.ensure();
  });

  test('starts with another mark that fail one after the other keep the table, with the bits of all', async () => {
    guard.set({ podBridges: ['cni0', 'cni1'], trustedPorts: [portOf('router.100')] });
    await guard.ensure();
    const tested = (): readonly string[] =>
      [...nft('list', 'table', 'arp', 'tandem').matchAll(/mark & (0x\w+) == /g)].map((each) =>
        Number(each[1]).toString(16),
      );
    const handle = (): string => nft('--handle', 'list', 'table', 'arp', 'tandem');
    await acceptFormerMark(mark, 0x40);
    const written = handle();
    await acceptFormerMark(mark, 0x40);
    assert.equal(handle(), written, 'it has both');
    assert.deepEqual(tested(), ['1040', '1040']);
    await acceptFormerMark(mark, 0x20);
    assert.deepEqual(tested(), ['1060', '1060']);
    await acceptFormerMark(mark, 0x80000000);
    assert.deepEqual(tested(), ['80001060', '80001060']);
    await acceptFormerMark(0x100, 0x40);
    assert.doesNotMatch(nft('list', 'tables'), /tandem/, 'a table that tests no former bit');
    await guard.ensure();
  });

  test('a port that is gone is left out, and a table without bridges goes', async () => {
    ip('link delete router.100');
    guard.set({ podBridges: ['cni0'], trustedPorts: [] });
    await guard.ensure();
    assert.equal(nft('list', 'tables').includes('table netdev tandem'), false);
    guard.set({ podBridges: [], trustedPorts: [] });
    await guard.ensure();
    assert.doesNotMatch(nft('list', 'tables'), /tandem/);
  });

  test('removal leaves nothing of ours', async () => {
    guard.set({ podBridges: ['cni0'], trustedPorts: [] });
    await guard.ensure();
    await removeArpTables();
    await removeArpTables();
    assert.doesNotMatch(nft('list', 'tables'), /tandem/);
  });
});
