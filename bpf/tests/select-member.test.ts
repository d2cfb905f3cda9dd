// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * select_member on real SO_REUSEPORT groups: there is no test run for its kind. Each member has a socket in
 * each of the four groups; what arrives where is the choice.
 */

import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type Server } from 'node:net';
import { after, before, beforeEach, describe, test } from 'node:test';
import { attachReuseport } from '@tandem/bpf-loader-node/link';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { Fixture } from './fixture.ts';

const fixture = new Fixture();
const memberCount = 3;
const membersMax = 4;
const kinds = ['udp4', 'tcp4', 'udp6', 'tcp6'] as const;
type Kind = (typeof kinds)[number];

interface Member {
  readonly socket: Socket | Server;
  got: number;
}

const groups = new Map<Kind, Member[]>();
const ports = new Map<Kind, number>();

/** The fd under a Node socket: what a socket array takes. */
function fdOf(socket: Socket | Server): number {
  const fd = (socket as unknown as { _handle: { fd: number } })._handle.fd;
  assert.ok(fd > 0);
  return fd;
}

function loopback(kind: Kind): string {
  return kind.endsWith('4') ? '127.0.0.1' : '::1';
}

async function openMember(kind: Kind, backlog?: number): Promise<Member> {
  const port = ports.get(kind) ?? 0;
  if (kind === 'tcp4' || kind === 'tcp6') {
    const server = createServer();
    const member: Member = { socket: server, got: 0 };
    server.on('connection', (connection) => {
      member.got++;
      connection.destroy();
    });
    server.listen({
      ...{ port, host: loopback(kind), reusePort: true },
      ...(backlog === undefined ? {} : { backlog }),
    });
    await once(server, 'listening');
    ports.set(kind, (server.address() as { port: number }).port);
    return member;
  }
  const socket = createSocket({ type: kind, reusePort: true });
  const member: Member = { socket, got: 0 };
  socket.on('message', () => member.got++);
  socket.bind(port, loopback(kind));
  await once(socket, 'listening');
  ports.set(kind, socket.address().port);
  return member;
}

function keyOf(index: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(index).buffer);
}

function setListener(kind: Kind, member: number, socket: Socket | Server): void {
  const key = keyOf(kinds.indexOf(kind) * membersMax + member);
  const value = new Uint8Array(8);
  new DataView(value.buffer).setBigUint64(0, BigInt(fdOf(socket)), true);
  fixture.map('listeners').update(key, value);
}

before(async () => {
  for (const [i, kind] of kinds.entries()) {
    assert.equal(fixture.structs.number(`TD_${kind.toUpperCase()}`), i);
    const members: Member[] = [];
    for (let member = 0; member < memberCount; member++) {
      const opened = await openMember(kind);
      members.push(opened);
      setListener(kind, member, opened.socket);
    }
    groups.set(kind, members);
    attachReuseport(fixture.object.program('select_member'), fdOf(members[0]!.socket));
  }
});

after(() => {
  for (const members of groups.values()) for (const { socket } of members) socket.close();
  fixture[Symbol.dispose]();
});

beforeEach(() => {
  fixture.reset();
  for (const members of groups.values()) for (const member of members) member.got = 0;
});

/** Sends from `count` source ports and waits until all have arrived; how many each member got. */
async function spread(kind: Kind, count = 48): Promise<number[]> {
  const members = groups.get(kind) ?? [];
  const port = ports.get(kind) ?? 0;
  const clients: { close(): void }[] = [];
  for (let i = 0; i < count; i++) {
    if (kind === 'tcp4' || kind === 'tcp6') {
      const client = connect(port, loopback(kind));
      client.on('error', () => {});
      clients.push({ close: () => client.destroy() });
    } else {
      const client = createSocket(kind);
      client.send('x', port, loopback(kind));
      clients.push(client);
    }
  }
  try {
    await waitFor(() => members.reduce((sum, { got }) => sum + got, 0) === count, {
      timeoutMs: 5000,
      what: `${count} arrivals on ${kind}`,
    });
  } finally {
    for (const client of clients) client.close();
  }
  const got = members.map((member) => member.got);
  for (const member of members) member.got = 0;
  return got;
}

for (const kind of kinds) {
  describe(kind, () => {
    test('fresh members share, by hash', async () => {
      for (let i = 0; i < memberCount; i++) fixture.member(i, 'LIVE');
      const earlier = fixture.counters();
      const got = await spread(kind);
      for (const [i, n] of got.entries()) assert.ok(n > 0, `member ${i} got none: ${got}`);
      const moved = fixture.counters();
      assert.equal((moved['SELECTED'] ?? 0) - (earlier['SELECTED'] ?? 0), 48);
    });

    test('only LIVE ones', async () => {
      fixture.member(0, 'DRAIN');
      fixture.member(1, 'LIVE');
      fixture.member(2, 'DEAD');
      assert.deepEqual(await spread(kind), [0, 48, 0]);
    });

    test('a stale beat loses against a fresh one', async () => {
      fixture.member(0, 'LIVE', { ageMs: 150 });
      fixture.member(1, 'LIVE', { ageMs: 5000 });
      fixture.member(2, 'LIVE', { ageMs: -60_000 });
      assert.deepEqual(await spread(kind), [0, 0, 48]);
    });

    test('all stale: the freshest, nothing dropped', async () => {
      fixture.member(0, 'LIVE', { ageMs: 60_000 });
      fixture.member(1, 'LIVE', { ageMs: 30_000 });
      fixture.member(2, 'DRAIN', { ageMs: 0 });
      const earlier = fixture.counters();
      assert.deepEqual(await spread(kind), [0, 48, 0]);
      assert.equal(
        (fixture.counters()['SELECTED_STALE'] ?? 0) - (earlier['SELECTED_STALE'] ?? 0),
        48,
      );
    });

    test('the required revision first, then fresh ones without it (rule 12)', async () => {
      fixture.group({ required_revision: 7 });
      fixture.member(0, 'LIVE', { revision: 6, ageMs: -60_000 });
      fixture.member(1, 'LIVE', { revision: 7, ageMs: -60_000 });
      fixture.member(2, 'LIVE', { revision: 7, ageMs: 60_000 });
      assert.deepEqual(await spread(kind), [0, 48, 0]);
      fixture.member(1, 'DEAD');
      assert.deepEqual(await spread(kind), [48, 0, 0]);
      fixture.group({ required_revision: 0xfffffffe });
      fixture.member(0, 'LIVE', { revision: 1, ageMs: -60_000 });
      fixture.member(1, 'LIVE', { revision: 0xfffffff0, ageMs: -60_000 });
      assert.deepEqual(await spread(kind), [48, 0, 0], 'revisions wrap');
    });

    test('a LIVE member without a socket: the others', async () => {
      for (let i = 0; i < membersMax; i++) fixture.member(i, 'LIVE', { ageMs: -60_000 });
      const got = await spread(kind);
      assert.equal(
        got.reduce((sum, n) => sum + n, 0),
        48,
      );
    });
  });
}

test('nobody LIVE: refused and counted', async () => {
  const earlier = fixture.counters();
  const client = createSocket('udp4');
  try {
    client.send('x', ports.get('udp4') ?? 0, '127.0.0.1');
    await waitFor(
      () => fixture.counters()['DROP_NO_MEMBER'] === (earlier['DROP_NO_MEMBER'] ?? 0) + 1,
      {
        timeoutMs: 5000,
        what: 'the drop',
      },
    );
    assert.equal(
      (groups.get('udp4') ?? []).reduce((sum, { got }) => sum + got, 0),
      0,
    );
  } finally {
    client.close();
  }
});

describe('a listener whose accept queue fills up', () => {
  for (const [kind, backlog] of [
    ['tcp4', 32],
    ['tcp6', 32],
    // As with net.core.somaxconn=3: an empty queue is not filling up.
    ['tcp4', 3],
  ] as const) {
    /** A quarter of the queue may fill. */
    const share = Math.floor(backlog / 4);
    test(`${kind}, at most ${backlog}: its SYNs say so, and no longer when it is empty`, async () => {
      const opened = await openMember(kind, backlog);
      const clients: { destroy(): void }[] = [];
      /** Nothing accepts before all have connected: they do so in one turn of this thread. */
      const connectAtOnce = async (count: number): Promise<void> => {
        const former = opened.got;
        for (let i = 0; i < count; i++)
          clients.push(connect(ports.get(kind) ?? 0, loopback(kind)).on('error', () => {}));
        await waitFor(() => opened.got === former + count, { what: `${count} connections` });
      };
      const index = (kind === 'tcp4' ? 0 : membersMax) + 1;
      const note = (): bigint => {
        const value = fixture.map('connect_queues').lookup(keyOf(index));
        return value === null
          ? -1n
          : new DataView(value.buffer, value.byteOffset).getBigUint64(0, true);
      };
      try {
        setListener(kind, 1, opened.socket);
        fixture.member(1, 'LIVE', { ageMs: -60_000 });
        await connectAtOnce(Math.max(1, share));
        assert.equal(note(), 0n);
        const began = process.hrtime.bigint();
        await connectAtOnce(Math.max(2, share + 1));
        assert.ok(note() >= began && note() <= process.hrtime.bigint(), `${note()}`);
        await connectAtOnce(1);
        assert.equal(note(), 0n);
      } finally {
        setListener(kind, 1, groups.get(kind)![1]!.socket);
        for (const client of clients) client.destroy();
        opened.socket.close();
      }
    });
  }
});

describe('datagrams of pods that send much', () => {
  /** As from_pod sets it (lane.h). */
  const priority = 0x5444_ffff;
  const membersWithBoth = 2;
  const count = 24;

  for (const kind of ['udp4', 'udp6'] as const) {
    test(`${kind}: the second socket of the member, or its first one if it has none`, async () => {
      const heavy: Member[] = [];
      await using probe = Probe.start({ enter: (command, args = []) => [command, [...args]] });
      try {
        for (let member = 0; member < membersWithBoth; member++) {
          const opened = await openMember(kind);
          heavy.push(opened);
          const index = (kind === 'udp4' ? 0 : 1) * membersMax + member;
          const key = keyOf(index);
          const value = BigUint64Array.of(BigInt(fdOf(opened.socket)));
          fixture.map('heavy_listeners').update(key, new Uint8Array(value.buffer));
        }
        for (let member = 0; member < memberCount; member++)
          fixture.member(member, 'LIVE', { ageMs: -60_000 });
        const first = groups.get(kind) ?? [];
        const gotOf = (members: readonly Member[]): number[] => members.map(({ got }) => got);
        const total = (): number => [...first, ...heavy].reduce((sum, { got }) => sum + got, 0);
        const send = async (options: { priority?: number }): Promise<void> => {
          for (const member of [...first, ...heavy]) member.got = 0;
          const target = { to: loopback(kind), port: ports.get(kind) ?? 0, data: 'x', want: 0 };
          for (let sent = 0; sent < count; sent++) await probe.udp({ ...target, ...options });
          await waitFor(() => total() === count, { what: 'all of them' });
        };
        const earlier = fixture.counters();
        await send({ priority });
        assert.deepEqual(gotOf(first).slice(0, membersWithBoth), [0, 0]);
        assert.ok(gotOf(heavy).every((got) => got > 0) && gotOf(first)[2]! > 0, `${total()}`);
        const later = fixture.counters();
        const moved = (name: string): number => (later[name] ?? 0) - (earlier[name] ?? 0);
        assert.equal(moved('SELECTED'), count);
        assert.equal(moved('SELECTED_HEAVY'), gotOf(heavy)[0]! + gotOf(heavy)[1]!);
        for (const options of [{}, { priority: 6 }]) {
          await send(options);
          assert.deepEqual(gotOf(heavy), [0, 0]);
        }
        fixture.member(0, 'DEAD');
        fixture.member(2, 'DEAD');
        await send({ priority });
        assert.deepEqual(
          [gotOf(first), gotOf(heavy)],
          [
            [0, 0, 0],
            [0, count],
          ],
        );
      } finally {
        for (const { socket } of heavy) socket.close();
      }
    });
  }
});
