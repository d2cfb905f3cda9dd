// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The plugin as the container runtime starts it, against the agent's side of it, with real interfaces. */

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { formatAddress } from '@tandem/core/net/ip';
import { NetworkView } from '@tandem/netlink/network-view';
import { silentLogger } from '@tandem/runtime/log';
import { insideNamespace } from '@tandem/testing/inside';
import { Namespace } from '@tandem/testing/namespace';
import { patience, waitFor } from '@tandem/testing/wait';
import { Gate } from './gate.ts';
import { GateServer } from './gate-server.ts';
import { callBytesMax } from './limits.ts';
import { type Sandbox, Sandboxes } from './sandboxes.ts';
import { WaitTimes, waitBounds } from './wait-times.ts';

const program = fileURLToPath(new URL('../../../cni-gate/build/tandem-gate', import.meta.url));
const podMac = '02:00:00:00:00:11';
const directory = mkdtempSync(join(tmpdir(), 'tandem-gate-'));
const socketPath = join(directory, 'gate.sock');
const waits = new WaitTimes();

interface Ended {
  readonly code: number | null;
  readonly text: string;
  readonly tookMs: number;
}

/** Result that a bridge CNI plugin hands on. */
const prevResult = {
  cniVersion: '0.3.1',
  interfaces: [
    { name: 'cni0', mac: '02:00:00:00:00:99' },
    { name: 'port', mac: '02:00:00:00:00:10' },
    { name: 'eth0', mac: podMac, sandbox: '/var/run/netns/cni-1' },
  ],
  ips: [{ version: '4', interface: 2, address: '10.2.0.11/24', gateway: '10.2.0.1' }],
  routes: [],
  dns: {},
};

async function plugin(
  command: string,
  { config = {}, args = {} }: { readonly config?: object; readonly args?: Record<string, string> },
): Promise<Ended> {
  const startedAt = performance.now();
  const child = spawn(program, {
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: 'sandbox-1',
      CNI_NETNS: '/var/run/netns/cni-1',
      CNI_IFNAME: 'eth0',
      CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=uid-1',
      ...args,
    },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part));
  child.stdin.on('error', () => undefined);
  child.stdin.end(
    JSON.stringify({ cniVersion: '0.3.1', name: 'pods', gateSocket: socketPath, ...config }),
  );
  const [code] = (await ended) as [number | null];
  return { code, text, tookMs: performance.now() - startedAt };
}

const add = (config: object = { prevResult }): Promise<Ended> => plugin('ADD', { config });
const message = ({ text }: Ended): string => (JSON.parse(text) as { msg: string }).msg;

insideNamespace(import.meta, () => {
  let view: NetworkView;
  let pod: Namespace;
  let server: GateServer;
  let changes = 0;
  let problem: string | null = null;
  const asked: Sandbox[] = [];
  const listeners = new Set<() => void>();
  const sandboxes = new Sandboxes(() => (changes += 1));

  before(async () => {
    pod = await Namespace.create('pod');
    execFileSync('ip', ['-batch', '-'], {
      input: [
        'link add cni0 type bridge',
        `link add port type veth peer name eth0 address ${podMac} netns ${pod.name}`,
        'link set port master cni0 up',
        'link add stray type veth peer name stray-peer',
        '',
      ].join('\n'),
    });
    view = await NetworkView.open();
    const gate = new Gate({
      view,
      sandboxes,
      enforcement: {
        problemOf: (sandbox) => {
          asked.push(sandbox);
          return problem;
        },
        onApplied: (listener) => {
          listeners.add(listener);
          return () => void listeners.delete(listener);
        },
      },
    });
    server = new GateServer({ path: socketPath, handler: gate, waits, log: silentLogger() });
    await server.start();
  });
  after(async () => {
    await server.stop();
    view.close();
    await pod[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  test('ADD ends with the result of the plugins before when the pod is enforced', async () => {
    problem = null;
    const ended = await add();
    assert.equal(ended.code, 0, ended.text);
    assert.deepEqual(JSON.parse(ended.text), prevResult);
    const found = sandboxes.of('shop/web', 'uid-1');
    assert.equal(found?.interfaceName, 'port');
    assert.deepEqual(
      found.addresses.map((each) => formatAddress(each)),
      ['10.2.0.11'],
    );
    assert.equal(sandboxes.of('shop/web', 'uid-2'), undefined, 'the next pod of that name');
    assert.ok(changes > 0);
  });

  test('ADD finds an interface that was made again under its name, and has the kernel list none', async (t) => {
    problem = null;
    await view.refresh();
    const lists = t.mock.method(view.rtnetlink, 'links');
    execFileSync('ip', ['-batch', '-'], {
      input: [
        'link del port',
        `link add port type veth peer name eth0 address ${podMac} netns ${pod.name}`,
        'link set port master cni0 up',
        '',
      ].join('\n'),
    });
    assert.equal((await add()).code, 0);
    assert.equal(sandboxes.of('shop/web', 'uid-1')?.interfaceName, 'port');
    assert.equal(lists.mock.callCount(), 0);
  });

  test('ADD waits for the policy that is applied after it', async () => {
    problem = 'its object is not known yet';
    asked.length = 0;
    const waiting = add();
    await waitFor(() => asked.length > 0, { what: 'the call' });
    problem = null;
    for (const listener of listeners) listener();
    assert.equal((await waiting).code, 0);
    assert.equal(listeners.size, 0);
  });

  test('the wait of each call is counted in its bucket', () => {
    const counted = waits.counts.reduce((sum, count) => sum + count, 0);
    assert.ok(counted >= 2, 'those of the tests above');
    for (const seconds of [0.005, 0.006, 18, 21]) waits.add(seconds);
    assert.equal(waits.counts.at(-1), 1);
    assert.equal(waits.counts[waitBounds.indexOf(20)], 1);
    assert.equal(
      waits.counts.reduce((sum, count) => sum + count, 0),
      counted + 4,
    );
    assert.ok(waits.sum >= 39.011);
  });

  test('DEL forgets the sandbox, a late one of a sandbox before does not', async () => {
    const late = await plugin('DEL', { args: { CNI_CONTAINERID: 'sandbox-0' } });
    assert.equal(late.code, 0);
    assert.notEqual(sandboxes.of('shop/web', 'uid-1'), undefined);
    assert.equal((await plugin('DEL', {})).code, 0);
    assert.equal(sandboxes.of('shop/web', 'uid-1'), undefined);
  });

  test('the end of a pod’s object forgets its sandbox, not the one of a later pod', async () => {
    problem = null;
    await add();
    sandboxes.podGone('shop/web', ['uid-0']);
    assert.notEqual(sandboxes.of('shop/web', 'uid-1'), undefined);
    sandboxes.podGone('shop/web', ['uid-1']);
    assert.equal(sandboxes.size, 0);
  });

  test('a result whose interface is not the other end of the pod’s names none', async () => {
    problem = null;
    const interfaces = [
      { name: 'stray' },
      { name: 'nowhere' },
      { name: 'eth0', mac: podMac, sandbox: '/var/run/netns/cni-1' },
    ];
    await add({ prevResult: { ...prevResult, interfaces } });
    assert.equal(sandboxes.of('shop/web', '')?.interfaceName, null);
  });

  test('what cannot be read starts no pod, and says why', async () => {
    const cases: readonly (readonly [config: object, args: Record<string, string>, RegExp])[] = [
      [{}, {}, /result of the preceding CNI plugins cannot be read: the result is no object/],
      [{ prevResult: { ...prevResult, ips: [] } }, {}, /no address of eth0/],
      [
        { prevResult: { ...prevResult, ips: [{ address: 'x/24' }] } },
        {},
        /ips has no address: "x\/24"/,
      ],
      [{ prevResult }, { CNI_ARGS: 'K8S_POD_NAME=web' }, /has no K8S_POD_NAMESPACE/],
      [{ prevResult }, { CNI_ARGS: 'a\nb' }, /could not be handed/],
    ];
    for (const [config, args, expected] of cases) {
      const ended = await plugin('ADD', { config, args });
      assert.equal(ended.code, 1);
      assert.match(message(ended), expected);
      assert.equal((JSON.parse(ended.text) as { cniVersion: string }).cniVersion, '0.3.1');
    }
  });

  test('a call that is too long, or of another version, is refused', async () => {
    const ended = await add({ prevResult, padding: 'x'.repeat(callBytesMax) });
    assert.equal(ended.code, 1);
    const socket = net.connect(socketPath);
    socket.end('tandem-gate 2\n\n{}');
    let text = '';
    for await (const part of socket.setEncoding('utf8')) text += String(part);
    assert.match(text, /^!.*another version than the agent/);
  });

  test('without the agent ADD fails in the end, and DEL, CHECK, GC and STATUS do not', async () => {
    const elsewhere = { gateSocket: join(directory, 'nobody.sock') };
    for (const command of ['DEL', 'CHECK', 'GC', 'STATUS']) {
      const ended = await plugin(command, { config: elsewhere });
      assert.deepEqual([ended.code, ended.text], [0, ''], command);
      assert.ok(ended.tookMs < 2000 * patience, `${command}: ${ended.tookMs} ms`);
    }
    const ended = await plugin('ADD', {
      config: { prevResult, ...elsewhere, gateTimeoutSeconds: '1' },
    });
    assert.equal(ended.code, 1);
    assert.match(message(ended), /agent of this node cannot be reached/);
    assert.ok(ended.tookMs > 800, `${ended.tookMs} ms`);
  });

  test('a socket that was removed is made anew', async () => {
    problem = null;
    rmSync(socketPath);
    assert.equal(server.isReachable, false);
    await server.start();
    assert.equal((await add()).code, 0);
  });

  test('two looks at once after the socket was removed leave the server listening', async () => {
    rmSync(socketPath);
    await Promise.all([server.start(), server.start()]);
    assert.equal(server.isReachable, true);
  });

  test('ADD waits for an agent that restarts', async () => {
    problem = null;
    await server.stop();
    const waiting = add();
    const gate = { admit: async () => null, removed: () => undefined };
    const next = new GateServer({ path: socketPath, handler: gate, waits, log: silentLogger() });
    await next.start();
    assert.equal((await waiting).code, 0);
    await next.stop();
  });
});
