// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TD_HEARTBEAT_STALE_NS, tdGroup } from '@tandem/datapath/abi.gen';
import { NodeGroup } from '@tandem/datapath/group';
import { DnsSocketError } from '@tandem/dns-sockets/errors';
import { GroupMember } from '../group-member.ts';
import { heartbeatIntervalMs, journalAgeMsMax, retiredListenersMs } from '../limits.ts';
import type { ListenerHandle } from '../listener-kinds.ts';
import { noListener } from './hello.ts';
import type { TakeHeavy } from './link.ts';
import { Takeover, type TakeoverEvent } from './takeover.ts';

const ms = 1e6;
const startNs = 1e12;

const noDescriptors = new DnsSocketError('UdpLoop.add: EMFILE', {
  ...{ code: 'TANDEM_SOCKET_SYSTEM', errno: 24, errnoName: 'EMFILE', syscall: 'UdpLoop.add' },
});

/** A member that looks after a peer; times in milliseconds after `startNs`. */
class Watcher {
  readonly peer: GroupMember;
  readonly events: TakeoverEvent[] = [];
  readonly takeHeavy: TakeHeavy;
  /** Descriptors of the peer's listeners that are read, which are their handles as well. */
  readonly read = new Set<number>();
  readonly closed: number[] = [];
  replays = 0;
  /** No further socket can be opened. */
  hasNoDescriptors = false;
  readonly #takeover: Takeover;

  constructor() {
    const group = new NodeGroup(new ArrayBuffer(tdGroup.size));
    const self = new GroupMember(group, 0);
    this.peer = new GroupMember(group, 1);
    self.join(startNs, 1);
    this.peer.join(startNs, 1);
    this.#takeover = new Takeover({
      self,
      loop: {
        add: (fd) => {
          if (this.hasNoDescriptors) throw noDescriptors;
          this.read.add(fd);
          return fd as ListenerHandle;
        },
        remove: (handle) => this.read.delete(handle),
      },
      tcp: { listen: () => () => undefined },
      closeFd: (fd) => this.closed.push(fd),
      replay: () => {
        this.replays += 1;
      },
      onEvent: (event) => this.events.push(event),
    });
    this.#takeover.setOwn([1 as ListenerHandle]);
    const listeners = [1, ...Array(3).fill(noListener)];
    this.takeHeavy = this.#takeover.onLinked({ member: 1, listeners, takesHeavy: true }, startNs);
  }

  ownListener(fd: number): number {
    return this.#takeover.ownListener(fd as ListenerHandle);
  }

  close(): void {
    this.#takeover.close();
  }

  look(atMs: number): void {
    this.#takeover.tick(startNs + atMs * ms);
  }

  /** A look every `everyMs`, from the first such time after `from` until `to`. */
  lookEvery(everyMs: number, from: number, to: number): void {
    for (let at = from + everyMs; at <= to; at += everyMs) this.look(at);
  }

  beat(atMs: number): void {
    this.peer.beat(startNs + atMs * ms);
  }

  lose(atMs: number): void {
    this.#takeover.onLost(1, startNs + atMs * ms);
  }

  /** When it is to look next, at the latest. */
  get dueMs(): number {
    return (this.#takeover.staleAtNs() - startNs) / ms;
  }
}

const staleMs = TD_HEARTBEAT_STALE_NS / ms;

describe('a member that gives no beat', () => {
  test('hangs when it was looked at every turn for 100 ms, and not before', () => {
    const watcher = new Watcher();
    watcher.lookEvery(heartbeatIntervalMs, 0, staleMs - heartbeatIntervalMs);
    watcher.look(staleMs - 1);
    assert.deepEqual([watcher.events, watcher.replays, watcher.dueMs], [['linked'], 0, staleMs]);
    watcher.look(staleMs);
    assert.deepEqual([watcher.events, watcher.replays], [['linked', 'hung'], 1]);
    watcher.look(staleMs + heartbeatIntervalMs);
    assert.equal(watcher.replays, 2, 'what is left of its queries is replayed in later turns');
  });

  test('that beats again is back', () => {
    const watcher = new Watcher();
    watcher.lookEvery(heartbeatIntervalMs, 0, 120);
    watcher.beat(125);
    watcher.look(140);
    assert.deepEqual(watcher.events, ['linked', 'hung', 'back']);
  });

  test('is not taken for hung by one that had no CPU itself', () => {
    const watcher = new Watcher();
    // Both run every 150 ms, the peer's turn just after each of our looks: its beat is always old.
    for (let at = 150; at <= 6000; at += 150) {
      watcher.look(at);
      watcher.beat(at + 1);
    }
    assert.deepEqual([watcher.events, watcher.replays], [['linked'], 0]);
  });

  test('hangs after four such looks: a stopped one is found on a busy machine as well', () => {
    const watcher = new Watcher();
    watcher.lookEvery(150, 0, 450);
    assert.deepEqual(watcher.events, ['linked']);
    watcher.look(600);
    assert.deepEqual(watcher.events, ['linked', 'hung']);
  });

  test('is away at once when its link ends, however seldom we look', () => {
    const watcher = new Watcher();
    watcher.look(150);
    watcher.lose(151);
    assert.deepEqual([watcher.events, watcher.replays], [['linked', 'lost'], 1]);
  });
});

describe('its listeners for pods that ask much', () => {
  const heavyFd = 7;

  for (const isLate of [false, true]) {
    const when = isLate ? 'come when it is away already' : 'are there when it goes away';
    test(`${when}: they are read, answered by the own first one, and closed with the others`, () => {
      const watcher = new Watcher();
      if (!isLate) watcher.takeHeavy([heavyFd, noListener]);
      watcher.look(10);
      assert.deepEqual([...watcher.read], []);
      watcher.lose(11);
      if (isLate) watcher.takeHeavy([heavyFd, noListener]);
      assert.deepEqual([...watcher.read], [1, heavyFd]);
      assert.equal(watcher.ownListener(heavyFd), 1);
      watcher.beat(12);
      watcher.look(20);
      assert.deepEqual([[...watcher.read], watcher.events.at(-1)], [[], 'back']);
      watcher.close();
      assert.deepEqual(watcher.closed, [1, heavyFd]);
    });
  }

  test('that come after all was closed are closed at once', () => {
    const watcher = new Watcher();
    watcher.close();
    watcher.takeHeavy([heavyFd, noListener]);
    assert.deepEqual(watcher.closed, [1, heavyFd]);
  });
});

test('a member that does not serve yet keeps former listeners as long as a client may wait for what is queued there', () => {
  const closed: number[] = [];
  const takeover = new Takeover({
    self: new GroupMember(new NodeGroup(new ArrayBuffer(tdGroup.size)), 0),
    loop: { add: () => assert.fail('it is not read'), remove: () => false },
    tcp: { listen: () => assert.fail('nor is it accepted from') },
    closeFd: (fd) => closed.push(fd),
    replay: () => undefined,
    onEvent: () => undefined,
  });
  const link = (fd: number, atMs: number): void => {
    const listeners = [fd, ...Array(3).fill(noListener)];
    takeover.onLinked({ member: 1, listeners, takesHeavy: false }, startNs + atMs * ms);
  };
  const keptMs = retiredListenersMs + journalAgeMsMax;
  for (const [index, fd] of [11, 12, 13].entries()) link(fd, index * 1000);
  link(14, 1000 + keptMs - 1);
  assert.deepEqual(closed, []);
  link(15, 1000 + keptMs);
  assert.deepEqual(closed, [11]);
  link(16, 10 * keptMs);
  assert.deepEqual(
    closed,
    [11, 12, 13, 14],
    'not the last of the former ones, which was replaced just now',
  );
  takeover.close();
  assert.deepEqual(closed, [11, 12, 13, 14, 15, 16]);
});

test('a listener that cannot be read is tried again, and ends nothing', () => {
  const watcher = new Watcher();
  watcher.hasNoDescriptors = true;
  watcher.lose(1);
  watcher.look(20);
  assert.deepEqual([watcher.events, [...watcher.read]], [['linked', 'lost', 'unread'], []]);
  assert.equal(watcher.replays, 2, 'its queries in flight are taken over all the same');
  watcher.hasNoDescriptors = false;
  watcher.look(40);
  assert.deepEqual([...watcher.read], [1]);
  watcher.beat(50);
  watcher.look(60);
  assert.deepEqual([...watcher.read], []);
  assert.deepEqual(watcher.events, ['linked', 'lost', 'unread', 'back']);
});
