// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { Namespace } from './namespace.ts';
import { createNode } from './netns.ts';
import { buildIp, buildPacket, concatBytes } from './packet.ts';
import { describePacket, parsePacket } from './packet-parse.ts';
import type { PacketSpec } from './packet-spec.ts';
import { Probe, parseWho } from './probe.ts';
import { ProbeEndedError, ProbeError } from './probe-process.ts';
import { KEPT_DATA } from './probe-types.ts';
import { isProcessAlive, startProcess } from './process.ts';
import { waitFor } from './wait.ts';

const node = await createNode({
  name: 'probe',
  pods: [{ name: 'a' }, { name: 'b' }],
  kubeProxy: 'none',
});
after(() => node[Symbol.asyncDispose]());
const [podA, podB] = [node.pod('a'), node.pod('b')];
const a = node.own(Probe.start(podA.namespace));
const b = node.own(Probe.start(podB.namespace));
const [addressA, addressB] = ['10.1.0.11', '10.1.0.12'] as const;

const fails = (code: string) => (error: unknown) =>
  error instanceof ProbeError && error.code === code;

describe('streams', () => {
  test('connect, refuse, time out', async () => {
    await using server = await b.listen({ protocol: 'tcp', address: '0.0.0.0', mode: 'echo' });
    assert.equal((await a.tcp({ to: addressB, port: server.port })).retransmits, 0);
    await assert.rejects(a.tcp({ to: addressB, port: 1 }), fails('ECONNREFUSED'));
    const dark = {
      to: addressB,
      port: server.port,
      source: '10.1.0.11',
      data: 'x',
      want: 2,
      timeoutMs: 50,
    };
    await assert.rejects(a.tcp(dark), fails('ETIMEDOUT'));
  });

  test('a kept connection is pinged, and reset', async () => {
    await using server = await b.listen({ protocol: 'tcp', address: '::', mode: 'echo' });
    const stream = await a.connect({ to: 'fd00:1::12', port: server.port });
    for (const data of ['one', 'two']) {
      const { data: back } = await stream.exchange({ data, want: 3 });
      assert.equal(new TextDecoder().decode(back), data);
    }
    assert.equal((await server.served()).open, 1);
    await stream.close({ reset: true });
    await waitFor(async () => (await server.served()).open === 0, { what: 'the reset' });
  });

  test('64 KiB and more come back whole', async () => {
    await using server = await b.listen({ protocol: 'tcp', address: '0.0.0.0', mode: 'echo' });
    const data = Uint8Array.from({ length: 150_000 }, (_, i) => (i * 7) & 0xff);
    const back = await a.tcp({ to: addressB, port: server.port, data, want: data.length });
    assert.deepEqual(back.data, data);
  });

  test('data that the probe keeps is sent as often as it is named', async () => {
    await using server = await b.listen({ protocol: 'tcp', address: '0.0.0.0', mode: 'echo' });
    const to = { to: addressB, port: server.port, data: KEPT_DATA };
    for (const length of [65_537, 3]) {
      const data = Uint8Array.from({ length }, (_, i) => (i * 11) & 0xff);
      await a.keep(data);
      for (let i = 0; i < 2; i++) {
        assert.deepEqual((await a.tcp({ ...to, want: length })).data, data);
      }
    }
  });

  test('length-prefixed messages', async () => {
    await using server = await b.listen({ protocol: 'tcp', address: '0.0.0.0', mode: 'echo' });
    const data = Uint8Array.of(0, 2, 1, 2, 0, 1, 3);
    assert.deepEqual(
      (await a.tcp({ to: addressB, port: server.port, data, messages: 2 })).data,
      data,
    );
  });

  test('many at once', async () => {
    await using server = await b.listen({ protocol: 'tcp', address: '0.0.0.0' });
    const results = await Promise.all(
      Array.from({ length: 200 }, () =>
        a.tcp({ to: addressB, port: server.port, data: '?', want: 8 }),
      ),
    );
    assert.ok(results.every(({ data, localPort }) => parseWho(data).peerPort === localPort));
    assert.equal((await server.served()).accepted, 200);
  });
});

describe('what hostile ends of a stream do', () => {
  test('a pour writes bursts, opens again what ends, and reads what comes back', async () => {
    await using server = await b.listen({ protocol: 'tcp', address: '0.0.0.0', mode: 'echo' });
    const data = new Uint8Array(1000).fill(7);
    const to = { to: addressB, port: server.port, connections: 3, data };
    const bursts = await a.pour({ ...to, burst: 5, pauseMs: 60_000, seconds: 0.3 });
    const { opened, failed, ended, messages, bytesRead } = bursts;
    assert.deepEqual([opened, failed, ended, messages, bytesRead], [3, 0, 0, 15, 15_000]);
    const short = await a.pour({ ...to, burst: 1, lifeMs: 50, seconds: 0.5 });
    assert.ok(short.opened > 6 && short.messages === short.opened, JSON.stringify(short));
    const refused = await a.pour({ ...to, port: 1, seconds: 0.2 });
    assert.ok(refused.failed > 3 && refused.opened === 0, JSON.stringify(refused));
  });

  test('a server that reads nothing takes a little, one that streams sends without end', async () => {
    const listen = { protocol: 'tcp', address: '0.0.0.0' } as const;
    await using holding = await b.listen({ ...listen, mode: 'hold' });
    const data = new Uint8Array(10_000).fill(1);
    const pour = { to: addressB, connections: 1, data, seconds: 0.5 };
    const held = await a.pour({ ...pour, port: holding.port });
    assert.ok(held.messages < 1000 && held.ended === 0, JSON.stringify(held));
    assert.equal((await holding.served()).bytes, 0);
    await using streaming = await b.listen({ ...listen, mode: 'stream', data });
    const streamed = await a.pour({ ...pour, port: streaming.port, burst: 1 });
    assert.ok(streamed.bytesRead > 10_000_000, JSON.stringify(streamed));
  });
});

describe('datagrams', () => {
  test('reply, silence, refusal', async () => {
    await using server = await b.listen({ protocol: 'udp', address: '0.0.0.0', mode: 'echo' });
    const { replies } = await a.udp({ to: addressB, port: server.port, data: 'hello' });
    assert.equal(replies[0]?.from, addressB);
    assert.equal(new TextDecoder().decode(replies[0]?.data), 'hello');
    await using sink = await b.listen({ protocol: 'udp', address: '0.0.0.0', mode: 'sink' });
    const dark = { to: addressB, port: sink.port, data: 'x', timeoutMs: 50 };
    await assert.rejects(a.udp(dark), fails('ETIMEDOUT'));
    assert.equal((await sink.served()).datagrams, 1);
    await assert.rejects(a.udp({ to: addressB, port: 1, data: 'x' }), fails('ECONNREFUSED'));
  });

  test('one 5-tuple for several exchanges', async () => {
    await using server = await b.listen({ protocol: 'udp', address: '::' });
    await using flow = await a.associate({ to: 'fd00:1::12', port: server.port, sourcePort: 4444 });
    for (let i = 0; i < 3; i++) {
      assert.equal(parseWho((await flow.exchange({ data: 'x', want: 1 })).data).peerPort, 4444);
    }
  });

  test('a blast keeps its rate', async () => {
    await using server = await b.listen({ protocol: 'udp', address: '0.0.0.0', mode: 'sink' });
    const data = new Uint8Array(32);
    const blast = { to: addressB, port: server.port, data, counterAt: 4, count: 500, rate: 2000 };
    const { sent, elapsedUs } = await a.blast(blast);
    assert.equal(sent, 500);
    assert.ok(elapsedUs >= 249_000, `${elapsedUs} us for 250 ms of datagrams`);
    await waitFor(async () => (await server.served()).datagrams === 500, { what: '500 datagrams' });
  });
});

describe('blasts', () => {
  test('data of any length, with no byte too', async () => {
    await using server = await b.listen({ protocol: 'udp', address: '0.0.0.0', mode: 'sink' });
    const lengths = [0, 1, 2, 3, 4];
    for (const length of lengths) {
      const blast = { to: addressB, port: server.port, data: new Uint8Array(length), count: 2 };
      assert.equal((await a.blast(blast)).sent, 2, `${length} bytes`);
    }
    const arrived = async (): Promise<boolean> => (await server.served()).datagrams === 10;
    await waitFor(arrived, { what: 'two datagrams of each length' });
  });

  test('a counter that does not fit, and a target that is not there, are told apart', async () => {
    const blast = { to: addressB, port: 1, data: new Uint8Array(4), count: 1 };
    assert.equal((await a.blast({ ...blast, counterAt: 0 })).sent, 1);
    const noRoom = { name: 'ProbeError', code: 'EINVAL', message: /no room for the counter/ };
    await assert.rejects(a.blast({ ...blast, counterAt: 1 }), noRoom);
    for (const randomAt of [[3], [0, 0, 0, 0, 0], [-1]]) {
      await assert.rejects(a.blast({ ...blast, randomAt }), fails('EINVAL'));
    }
    const frames = { interface: 'eth9', data: new Uint8Array(60), count: 1 };
    await assert.rejects(a.blast(frames), fails('ENODEV'));
  });
});

test('a blast of frames with random fields', async () => {
  await using capture = await b.capture({ contains: 'random fields' });
  const frame = buildPacket({
    ethernet: { source: podA.mac, destination: podA.gatewayMac },
    ip: { source: addressA, destination: addressB },
    udp: { sourcePort: 1111, destinationPort: 2222 },
    payload: 'random fields: ........',
  });
  const at = frame.length - 8;
  const blast = { interface: 'eth0', data: frame, randomAt: [at + 2, at + 6], count: 8, seed: 7 };
  await a.blast(blast);
  await waitFor(async () => (await capture.captured()).matched === 8, { what: '8 frames' });
  const tails = (await capture.captured()).frames.map(({ bytes }) =>
    Buffer.from(bytes.subarray(-8)).toString('latin1'),
  );
  for (const tail of tails) assert.match(tail, /^\.\.[^]{2}\.\.[^]{2}$/);
  assert.equal(new Set(tails).size, 8, 'each has its own');
});

describe('raw packets', () => {
  const link = { source: podA.mac, destination: podA.gatewayMac };
  const udp: PacketSpec = {
    ethernet: link,
    ip: { source: addressA, destination: addressB },
    udp: { sourcePort: 1111, destinationPort: 2222 },
    payload: 'raw packet',
  };

  test('frames and ring frames arrive; a server answers what we built', async () => {
    await using server = await b.listen({
      protocol: 'udp',
      address: '0.0.0.0',
      port: 2222,
      mode: 'sink',
    });
    await a.frame(buildPacket(udp), { count: 2 });
    await a.ring(buildPacket(udp));
    await a.raw(addressB, buildIp(udp));
    await waitFor(async () => (await server.served()).datagrams === 4, { what: '4 datagrams' });
  });

  test('IPv6, with a destination options header and a spoofed source', async () => {
    await using server = await b.listen({
      protocol: 'udp',
      address: '::',
      port: 2222,
      mode: 'sink',
    });
    const ip = { source: 'fd00:1::99', destination: 'fd00:1::12' };
    const odd: PacketSpec = { ...udp, ip: { ...ip, extensions: [{ kind: 'destination' }] } };
    await a.frame(buildPacket(odd));
    await a.raw('fd00:1::12', buildIp({ ...udp, ip }));
    await waitFor(async () => (await server.served()).datagrams === 2, { what: '2 datagrams' });
  });

  test('a capture of payloads is queued those alone, of either family and transport', async () => {
    await using capture = await b.capture({ payload: 'TANDEM-' });
    const ipv6 = { source: 'fd00:1::11', destination: 'fd00:1::12' };
    const { udp: _, ...rest } = udp;
    const tcp = { sourcePort: 9, destinationPort: 10, flags: ['rst'] as const };
    const vxlan = { sourcePort: 9, destinationPort: 8472 };
    const specs: readonly PacketSpec[] = [
      { ...udp, payload: 'TANDEM+' },
      { ...udp, payload: 'TANDEM' },
      { ...rest, tcp, payload: ' TANDEM-' },
      { ...udp, payload: 'TANDEM-1' },
      { ...rest, tcp, payload: 'TANDEM-2' },
      { ...udp, ip: ipv6, payload: 'TANDEM-3' },
      { ...rest, ip: ipv6, tcp, payload: 'TANDEM-4' },
      { ...udp, udp: vxlan, payload: 'whatever' },
    ];
    for (const spec of specs) await a.frame(buildPacket(spec));
    const { frames, total } = await capture.captured({ count: 5 });
    assert.deepEqual(
      frames.map(({ bytes }) => Buffer.from(bytes.subarray(-8)).toString('latin1')),
      ['TANDEM-1', 'TANDEM-2', 'TANDEM-3', 'TANDEM-4', 'whatever'],
    );
    assert.equal(total, 5);
  });

  test('a capture tells how many frames it lost, each time that it is asked', async () => {
    await using capture = await b.capture({ payload: 'lost' });
    const payload = `lost${'.'.repeat(1000)}`;
    const data = buildPacket({ ...udp, payload });
    // the probe of the capture does not run meanwhile
    process.kill(b.pid, 'SIGSTOP');
    await a.frame(data, { count: 40_000 });
    process.kill(b.pid, 'SIGCONT');
    const first = await capture.captured();
    assert.ok(first.dropped > 0);
    const rest = async (): Promise<number> => {
      const { total, dropped } = await capture.captured();
      return total + dropped;
    };
    await waitFor(async () => (await rest()) === 40_000, { what: 'every frame, or its loss' });
    assert.equal((await capture.captured()).dropped, first.dropped);
  });

  test('captures count, keep frames, and put VLAN tags back', async () => {
    const host = node.own(Probe.start(node.node));
    await using capture = await host.capture({ interface: podA.hostInterface, contains: 'tagged' });
    const tagged = buildPacket({
      ...udp,
      ethernet: { ...link, vlans: [{ id: 7 }] },
      payload: 'tagged',
    });
    await a.frame(concatBytes([tagged]), { count: 3 });
    await a.frame(buildPacket(udp));
    const { matched, frames } = await capture.captured({ count: 3 });
    assert.equal(matched, 3);
    const seen = parsePacket(frames[0]?.bytes ?? new Uint8Array(0));
    assert.deepEqual(seen.problems, []);
    assert.equal(seen.ethernet?.vlans[0]?.id, 7);
    assert.equal(describePacket(seen), '10.1.0.11:1111 > 10.1.0.12:2222 udp 6');
    assert.equal(frames[0]?.isOutgoing, false);
    await assert.rejects(capture.captured({ count: 9, timeoutMs: 50 }), fails('ETIMEDOUT'));
  });

  test('the kernel answers a built SYN, and its answer is right', async () => {
    await using server = await b.listen({ protocol: 'tcp', address: '::' });
    const source = 'fd00:1::11';
    await using capture = await a.capture({
      contains: Uint8Array.of(server.port >> 8, server.port & 255),
    });
    const syn: PacketSpec = {
      ethernet: link,
      ip: { source, destination: 'fd00:1::12' },
      tcp: { sourcePort: 999, destinationPort: server.port, flags: ['syn'], sequence: 41 },
    };
    await a.frame(buildPacket(syn));
    const { frames } = await capture.captured({ count: 2 });
    const answer = frames
      .map(({ bytes }) => parsePacket(bytes))
      .find(({ tcp }) => tcp?.flags.includes('syn') && tcp.flags.includes('ack'));
    assert.equal(answer?.tcp?.acknowledgement, 42);
  });
});

describe('users', () => {
  test('SO_REUSEPORT joins sockets of one user only', async () => {
    const socket = { protocol: 'udp', address: '0.0.0.0', port: 7777, reusePort: true } as const;
    await using first = await b.bind({ ...socket, uid: 1000 });
    await using second = await b.bind({ ...socket, uid: 1000 });
    await assert.rejects(b.bind({ ...socket, uid: 1001 }), fails('EADDRINUSE'));
    await assert.rejects(b.bind({ ...socket, port: 77, uid: 1001 }), fails('EACCES'));
    assert.notEqual(first.id, second.id);
  });
});

describe('bad requests', () => {
  test('closing a stream answers the exchange that runs on it', async () => {
    await using server = await b.listen({ protocol: 'tcp', address: '0.0.0.0', mode: 'sink' });
    const stream = await a.connect({ to: addressB, port: server.port });
    const waiting = assert.rejects(stream.exchange({ data: 'x', want: 1 }), fails('ECANCELED'));
    await stream.close();
    await waiting;
    await assert.rejects(stream.exchange({ data: 'x' }), fails('ENOTCONN'));
  });

  test('are answered, and the probe goes on', async () => {
    await assert.rejects(a.tcp({ to: 'nonsense', port: 1 }), fails('EINVAL'));
    await assert.rejects(a.frame(new Uint8Array(60), { interface: 'eth9' }), fails('ENODEV'));
    await assert.rejects(a.bulk({ server: addressB, count: 0 }), fails('EINVAL'));
    assert.equal((await a.ping(addressA)).replies.length, 1);
  });
});

describe('lifetime', () => {
  test('the probe ends with its input', async () => {
    const probe = Probe.start(podA.namespace);
    const { pid } = probe;
    await probe.ping(addressA);
    await probe[Symbol.asyncDispose]();
    assert.equal(isProcessAlive(pid), false);
    await assert.rejects(probe.ping(addressA), /stopped/);
  });

  test('a probe that died says how, whatever it is asked', async () => {
    await using probe = Probe.start(podA.namespace);
    await probe.ping(addressA);
    await using server = await b.listen({ protocol: 'tcp', address: '0.0.0.0', mode: 'sink' });
    const waiting = probe.tcp({ to: addressB, port: server.port, want: 1, timeoutMs: 10_000 });
    process.kill(probe.pid, 'SIGKILL');
    const saysHow = (error: unknown): boolean => {
      assert.ok(error instanceof ProbeEndedError);
      assert.match(error.message, /^probe (tcp|ping): the probe ended with SIGKILL$/);
      return true;
    };
    await assert.rejects(waiting, saysHow);
    await assert.rejects(probe.ping(addressA), saysHow);
  });

  test('a probe that ended by itself says its last words', async () => {
    await using probe = Probe.start(podA.namespace);
    const tooLong = probe.udp({ to: addressB, port: 1, data: new Uint8Array(1 << 19) });
    const words =
      /^probe udp: the probe ended with status 1: probe: a line of more than \d+ bytes$/;
    await assert.rejects(tooLong, { name: 'ProbeEndedError', message: words });
  });

  test('the probe dies with a killed parent', async () => {
    await using namespace = await Namespace.create('orphan');
    const module = new URL('./probe.ts', import.meta.url).href;
    // A bare object with a path is all that a probe needs of a namespace.
    const program = `
      const { Probe } = await import(${JSON.stringify(module)});
      const enter = (command, args) => ['nsenter', ['--net=${namespace.path}', command, ...args]];
      const probe = Probe.start({ enter });
      await probe.ping('127.0.0.1').catch(() => undefined);
      console.log(probe.pid);
      setInterval(() => undefined, 1000);`;
    let pid = 0;
    await using parent = startProcess(process.execPath, ['--input-type=module', '-e', program], {
      onLine: (line) => {
        pid = Number(line);
      },
    });
    await waitFor(() => pid > 0, { what: 'the pid of the probe', timeoutMs: 10_000 });
    assert.equal(isProcessAlive(pid), true);
    parent.child.kill('SIGKILL');
    await waitFor(() => !isProcessAlive(pid), { what: 'the end of the probe' });
  });
});
