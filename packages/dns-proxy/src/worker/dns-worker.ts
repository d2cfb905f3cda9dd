// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The life cycle of a DNS worker: it opens listeners, does periodic work, handles messages of the main thread, and stops. It
 * joins the socket group with its first policy, and sends heartbeats from the loop that serves DNS.
 */

import { tdListenerKind } from '@tandem/datapath/abi.gen';
import { TandemError } from '@tandem/runtime/tandem-error';
import {
  heartbeatIntervalMs,
  listenerRetryMs,
  selectorIntervalMs,
  sweepIntervalMs,
} from '../limits.ts';
import { isHeavy, type ListenerHandle } from '../listener-kinds.ts';
import { noListener } from '../peer/hello.ts';
import { PolicyTables } from '../policy/tables.ts';
import { Turns } from '../services/turns.ts';
import { markOf, settingsProblem } from '../settings.ts';
import { ListenerMemory } from '../udp/listener-memory.ts';
import type { ToWorker, WorkerOptions } from '../worker-messages.ts';
import { assembleMember, type Member, type MemberSizes } from './assemble.ts';
import type { MemberSystem } from './system.ts';

export class DnsWorker {
  readonly member: Member;
  readonly #options: WorkerOptions;
  readonly #system: MemberSystem;
  readonly #sweepMs: number;
  /** By td_listener_kind; empty while they cannot be opened. */
  #listeners: readonly number[] = [];
  /** Null until they are read. */
  #memory: ListenerMemory | null = null;
  /** The newest policy that arrived before the listeners were open. */
  #waiting: PolicyTables | null = null;
  /** `group.loads` of the programs and maps in use. */
  #loads: number;
  /** Mark bit of the packets that the listeners let in. */
  #mark = 0;
  /** Reason for which the listeners take no queries; empty: they take queries, or are not open. */
  #problem = '';

  constructor(options: WorkerOptions, system: MemberSystem, sizes: MemberSizes = {}) {
    this.#options = options;
    this.#system = system;
    this.#sweepMs = sizes.sweepMs ?? sweepIntervalMs;
    this.#loads = system.maps.group.loads;
    this.member = assembleMember(
      options,
      system,
      { listeners: () => this.#listeners, readListeners: () => this.#readListeners() },
      sizes,
    );
  }

  start(): void {
    const { life } = this.member;
    const turns = new Turns(heartbeatIntervalMs, this.#system.timers.tick);
    turns.every(heartbeatIntervalMs, () => {
      life.tick();
      this.#follow();
    });
    turns.every(this.#sweepMs, () => life.sweep());
    // Any socket of the group can replace the program that chooses members, and a process of the host that did so
    // would get the pods' queries (safety rule 11): ours is put back every second.
    turns.every(selectorIntervalMs, () => this.#system.sockets.attachSelector(this.#listeners));
    turns.every(selectorIntervalMs, () => this.#memory?.look());
    turns.start();
    this.#openListeners();
    this.#system.post({ kind: 'ready' });
  }

  onMessage(message: Exclude<ToWorker, { kind: 'begin' }>): void {
    if (message.kind === 'policy') this.#install(new PolicyTables(message.image));
    else if (message.kind === 'drain') this.member.life.drain(message.tokenTimeoutMs);
    else this.#stop();
  }

  /**
   * Tries again until it succeeds. A taken port, or settings that differ from those of the datapath, prevent this process from
   * serving DNS, and nothing else.
   */
  #openListeners(): void {
    const { maps, sockets, timers, post } = this.#system;
    const inForce = maps.group.settings;
    try {
      const problem = settingsProblem(this.#options, inForce);
      if (problem !== '') throw new TandemError('TANDEM_SETTINGS', problem);
      const mark = markOf(this.#options, inForce);
      this.#listeners = sockets.openListeners(mark);
      this.#mark = mark;
    } catch (error) {
      post({ kind: 'listeners', problem: TandemError.from(error).message });
      timers.after(listenerRetryMs, () => this.#openListeners());
      return;
    }
    post({ kind: 'listeners', problem: '' });
    this.member.link.start();
    if (this.#waiting !== null) this.member.life.install(this.#waiting);
    this.#waiting = null;
  }

  /** Begins to read: until the first policy queries wait in the sockets. */
  #readListeners(): void {
    const { listenerLoop, tcp, takeover, udp } = this.member;
    this.#system.collectStartGarbage();
    const own: ListenerHandle[] = [];
    for (const [kind, fd] of this.#listeners.entries()) {
      if (fd === noListener) continue;
      if (kind === tdListenerKind.TCP4 || kind === tdListenerKind.TCP6) tcp.listen(fd);
      else own[kind] = listenerLoop.add(fd, isHeavy(kind) ? 'heavy' : 'listener');
    }
    takeover.setOwn(own);
    this.#memory = new ListenerMemory(listenerLoop, this.#options.counters, own);
    const ipv4 = own[tdListenerKind.UDP4]!;
    udp.setListeners(ipv4, own[tdListenerKind.UDP6] ?? ipv4);
  }

  #install(tables: PolicyTables): void {
    if (this.#listeners.length > 0) {
      this.member.life.install(tables);
      return;
    }
    // A change of policy must not wait for a port: this member serves no older policy either.
    this.#waiting = tables;
    this.#system.post({ kind: 'installed', revision: tables.revision });
  }

  #stop(): void {
    const { life, link, takeover, tcp, pool, listenerLoop, upstreamLoop } = this.member;
    life.leave();
    link.stop();
    takeover.close();
    tcp.close();
    pool.close();
    listenerLoop.close();
    upstreamLoop.close();
    this.#system.maps.close();
    this.#system.exit();
  }

  /** Changes to the programs that an agent has loaded since, perhaps of another version. */
  #follow(): void {
    const { maps, sockets } = this.#system;
    const { loads } = maps.group;
    if (loads === this.#loads) return;
    this.#loads = loads;
    maps.reopen();
    this.member.lookup.follow(maps.endpoints());
    this.member.writer.follow(maps.learn());
    sockets.attachSelector(this.#listeners);
    if (this.#listeners.length > 0) this.#followSettings();
  }

  /** The new programs may have another mark, which the listeners then let in, or another port. */
  #followSettings(): void {
    const { maps, sockets, post } = this.#system;
    const inForce = maps.group.settings;
    const problem = settingsProblem(this.#options, inForce);
    if (problem !== this.#problem) post({ kind: 'listeners', problem });
    this.#problem = problem;
    this.member.life.suspend(problem !== '');
    const mark = markOf(this.#options, inForce);
    if (mark === this.#mark) return;
    sockets.guardListeners(this.#listeners, mark);
    this.#mark = mark;
  }
}
