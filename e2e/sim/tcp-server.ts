// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A server's end of a member's TCP connection: answers in any order, in pieces, or not as a server should.
 */

import type { Life } from './life.ts';
import type { SimQuery } from './sim-query.ts';
import { framedReply, idOf } from './tcp-messages.ts';
import type { StreamWatcher } from './tcp-system.ts';
import { connectEnds, Frames, type TcpEnd } from './tcp-wire.ts';
import type { World } from './world.ts';

const ms = 1e6;
/** A reply that does not fit into what a client may leave unread. */
const paddingBytes = 9000;

const manners = [
  'refuses',
  'is not there',
  'closes after one answer',
  'resets',
  'answers what nobody asked',
  'answers another question',
  'answers twice',
  'sends half an answer',
] as const;
type Manner = (typeof manners)[number] | 'is well';

interface Pending {
  readonly dueNs: number;
  readonly id: number;
  readonly query: SimQuery;
}

export class TcpServerConnection {
  isOver = false;
  /** It did not behave as a server should. */
  isBroken = false;
  readonly #world: World;
  readonly #life: Life;
  readonly #server: number;
  readonly #manner: Manner;
  readonly #end: TcpEnd;
  readonly #theirs: TcpEnd;
  readonly #frames = new Frames();
  readonly #dribbles: boolean;
  #pending: Pending[] = [];
  /** Ids in use. */
  readonly #ids = new Set<number>();

  constructor(world: World, life: Life, server: number) {
    this.#world = world;
    this.#life = life;
    this.#server = server;
    this.#manner = world.faults.breaksServer() ? world.random.pick(manners) : 'is well';
    this.#dribbles = world.random.chance(0.2);
    [this.#end, this.#theirs] = connectEnds();
    world.trace.note(`a server ${this.#manner}`, server, 0, 0, life.name);
  }

  begin(): { readonly end: TcpEnd; readonly watcher: StreamWatcher } {
    const { nowNs, random } = this.#world;
    const atNs = nowNs + random.int(20) * ms;
    if (this.#manner === 'refuses') {
      this.#breaks();
      this.#end.reset(atNs);
      this.isOver = true;
    } else if (this.#manner === 'is not there') this.#breaks();
    else this.#end.send('connect', atNs);
    const watcher: StreamWatcher = {
      onWrite: (bytes) => this.#onForward(bytes),
      onRead: () => undefined,
      onEnd: () => undefined,
      onDestroy: () => undefined,
      onOver: () => undefined,
    };
    return { end: this.#theirs, watcher };
  }

  turn(): void {
    const { nowNs } = this.#world;
    for (let segment = this.#due(); segment !== undefined; segment = this.#due()) {
      this.#end.inbox.shift();
      if (segment.kind === 'data') this.#onData(segment.bytes);
      else this.#close();
    }
    if (this.#pending.length === 0) return;
    const due = this.#pending.filter(({ dueNs }) => dueNs <= nowNs);
    if (due.length === 0) return;
    this.#pending = this.#pending.filter(({ dueNs }) => dueNs > nowNs);
    for (const pending of due) this.#answer(pending);
  }

  #due(): TcpEnd['inbox'][number] | undefined {
    return this.isOver ? undefined : this.#end.due(this.#world.nowNs);
  }

  #breaks(): void {
    this.isBroken = true;
  }

  /** A member sends a query: what it asks is judged here, where it leaves. */
  #onForward(framed: Uint8Array): void {
    const { oracle } = this.#world;
    const worker = this.#life.worker;
    const message = framed.subarray(2);
    const query = oracle.queryOfMessage(message);
    if (query === undefined || worker === null) {
      oracle.fail(2, 'a query of nobody is forwarded over TCP');
      return;
    }
    const id = idOf(message);
    if (this.#ids.has(id)) oracle.fail(2, `query ${query.number} has the id of another in flight`);
    this.#ids.add(id);
    oracle.tcp.onForward(query, this.#server, message, worker.judgedNs);
    query.forwarders.add(this.#life.name);
    query.tcpServer = this;
    this.#world.trace.note('forwards over TCP', query.number, id, 0, this.#life.name);
  }

  #onData(bytes: Uint8Array): void {
    const { oracle, faults, random, nowNs, trace } = this.#world;
    for (const message of this.#frames.push(bytes)) {
      const query = oracle.queryOfMessage(message);
      if (query === undefined || this.isOver) continue;
      if (this.#manner === 'resets') {
        this.#breaks();
        this.#end.reset(nowNs);
        this.isOver = true;
        return;
      }
      if (faults.losesForward()) {
        query.lostForwards += 1;
        trace.note('a query over TCP is never answered', query.number);
        continue;
      }
      const dueNs = nowNs + (faults.upstreamDelayMs() + random.int(10)) * ms;
      this.#pending.push({ dueNs, id: idOf(message), query });
    }
  }

  #answer({ id, query }: Pending): void {
    if (this.isOver) return;
    const { random, nowNs, trace } = this.#world;
    const reply = this.#replyTo(query, id);
    trace.note('a server answers over TCP', query.number, id);
    if (this.#manner === 'sends half an answer') {
      this.#breaks();
      this.#end.send('data', nowNs, reply.subarray(0, random.int(reply.length)));
      this.#close();
      return;
    }
    if (
      this.#manner === 'answers what nobody asked' ||
      this.#manner === 'answers another question'
    ) {
      this.#breaks();
      this.#end.send('data', nowNs, this.#wrongReply(reply, id, query));
      return;
    }
    for (const policyId of query.policies) this.#world.oracle.learned.onTold(query, policyId);
    this.#ids.delete(id);
    this.#send(reply);
    if (this.#manner === 'answers twice') {
      this.#breaks();
      this.#send(reply.slice());
    }
    if (this.#manner === 'closes after one answer') {
      this.#breaks();
      this.#close();
    }
  }

  #replyTo(query: SimQuery, id: number): Uint8Array {
    const { random } = this.#world;
    return framedReply({
      name: query.name,
      id,
      hosts: 1 + random.int(7),
      ttl: random.pick([1, 5, 30, 300]),
      number: query.number,
      server: this.#server,
      paddingBytes: random.chance(0.04) ? paddingBytes : 0,
    });
  }

  /** Reply with another id or another question, no reply, or nothing at all. */
  #wrongReply(reply: Uint8Array, id: number, query: SimQuery): Uint8Array {
    const { random } = this.#world;
    if (this.#manner === 'answers another question')
      return framedReply({
        name: (query.name + 1) % 9,
        id,
        hosts: 7,
        ttl: 300,
        number: query.number,
        server: this.#server,
        paddingBytes: 0,
      });
    if (random.chance(0.2)) return new Uint8Array(2);
    if (random.chance(0.2)) return Uint8Array.of(0, 1, id >> 8);
    let other = random.u16();
    while (this.#ids.has(other)) other = random.u16();
    reply[2] = other >> 8;
    reply[3] = other & 0xff;
    return reply;
  }

  #send(bytes: Uint8Array): void {
    const { random, nowNs } = this.#world;
    let atNs = nowNs;
    let from = 0;
    while (from < bytes.length) {
      const length = this.#dribbles ? 1 + random.int(bytes.length) : bytes.length;
      this.#end.send('data', atNs, bytes.subarray(from, from + length));
      from += length;
      atNs += random.int(30) * ms;
    }
  }

  #close(): void {
    this.isOver = true;
    this.#end.close(this.#world.nowNs);
  }
}
