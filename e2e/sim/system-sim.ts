// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The {@link MemberSystem} of a simulated process: what system-linux.ts has of the kernel, over the world's clock,
 * maps, sockets and chance. Every call is one that a process may be stopped at, or die (seam.ts).
 */

import { TD_MEMBERS_MAX } from '@tandem/datapath/abi.gen';
import type { TcpSystem } from '@tandem/dns-proxy/tcp/stream';
import type {
  LoopOptions,
  MemberMaps,
  MemberSockets,
  MemberSystem,
} from '@tandem/dns-proxy/worker/system';
import type { FromWorker } from '@tandem/dns-proxy/worker-messages';
import type { Life, Thread } from './life.ts';
import { killed } from './seam.ts';
import { SimRegion } from './sim-region.ts';
import { listenerKinds, type SimSocket } from './sockets.ts';
import { LoopRecords, SimUdpLoop } from './udp-loop.ts';
import { serverOf, type UpstreamSocket } from './upstream.ts';

/** Buffers of each member. They are large and are overwritten before use, so all process runs of a member share them. */
const records = Array.from({ length: TD_MEMBERS_MAX }, () => ({
  listeners: new LoopRecords(),
  upstreams: new LoopRecords(),
}));

export interface SimSystemOptions {
  readonly life: Life;
  readonly thread: Thread;
  readonly tcp: TcpSystem;
  /** A datagram leaves; its tx record begins at word `record`. */
  readonly onReply: (socket: SimSocket, record: number) => void;
  readonly onForward: (socket: UpstreamSocket, record: number) => void;
  readonly onMessage: (message: FromWorker) => void;
  /** The product begins something with this clock. */
  readonly onClock: () => void;
}

export class SimSystem implements MemberSystem {
  readonly clock: MemberSystem['clock'];
  readonly timers: MemberSystem['timers'];
  readonly maps: MemberMaps;
  readonly sockets: MemberSockets;
  readonly links: MemberSystem['links'];
  readonly random: MemberSystem['random'];
  readonly post: MemberSystem['post'];
  readonly #o: SimSystemOptions;
  #listeners: SimUdpLoop<SimSocket> | null = null;
  #upstreams: SimUdpLoop<UpstreamSocket> | null = null;
  #timers: { readonly dueNs: number; readonly work: () => void }[] = [];
  #tick: { readonly ns: number; readonly run: () => void } | null = null;
  #tickNs = 0;

  constructor(options: SimSystemOptions) {
    this.#o = options;
    const { world } = options.life;
    this.clock = {
      readInto: (clock) => {
        options.onClock();
        this.readInto(clock);
      },
    };
    this.timers = {
      after: (ms, work) => void this.#timers.push({ dueNs: world.nowNs + ms * 1e6, work }),
      tick: (ms, run) => {
        this.#tick = { ns: ms * 1e6, run };
        this.#tickNs = world.nowNs;
        return () => undefined;
      },
    };
    this.maps = this.#createMaps();
    this.sockets = this.#createSockets();
    this.links = world.links.socketsOf(options.life);
    this.random = { u16: world.random, seed: () => 1, key: () => ({ low: 1, high: 2 }) };
    this.post = options.onMessage;
  }

  collectStartGarbage(): void {}

  /** As process.exit(2): nothing follows. */
  readonly exit = (): never => {
    this.#o.life.end('stops');
    throw killed;
  };

  readInto(clock: Float64Array): void {
    const { world } = this.#o.life;
    clock[0] = world.nowNs;
    clock[1] = world.bootNs;
  }

  /** Loop that the product has made. */
  get listeners(): SimUdpLoop<SimSocket> {
    return this.#listeners as SimUdpLoop<SimSocket>;
  }

  get upstreams(): SimUdpLoop<UpstreamSocket> {
    return this.#upstreams as SimUdpLoop<UpstreamSocket>;
  }

  runTimers(): void {
    if (this.#timers.length === 0) return;
    const { nowNs } = this.#o.life.world;
    const due = this.#timers.filter(({ dueNs }) => dueNs <= nowNs);
    this.#timers = this.#timers.filter(({ dueNs }) => dueNs > nowNs);
    for (const { work } of due) work();
  }

  /** After what is ready. Whether it was due. */
  runTick(): boolean {
    const { nowNs } = this.#o.life.world;
    if (this.#tick === null || nowNs < this.#tickNs) return false;
    this.#tickNs = nowNs + this.#tick.ns;
    this.#tick.run();
    return true;
  }

  #createMaps(): MemberMaps {
    const { life, thread } = this.#o;
    const { world } = life;
    return {
      group: world.group,
      learnRequests: world.fqdn,
      endpoints: () => world.endpoints,
      learn: () => life.learnProgram(thread),
      mapJournal: (member) =>
        new SimRegion({ life, thread }, world.journals[member] as ArrayBuffer, member),
      unmapJournal: () => undefined,
      reopen: () => undefined,
      close: () => undefined,
    };
  }

  #createSockets(): MemberSockets {
    const { life, tcp } = this.#o;
    return {
      createListenerLoop: (loop) => {
        this.#listeners = this.#createListeners(loop as LoopOptions);
        return this.#listeners.asUdpLoop();
      },
      createUpstreamLoop: (loop) => {
        this.#upstreams = this.#createUpstreams(loop);
        return this.#upstreams.asUdpLoop();
      },
      openUpstream: ({ address }) => life.openUpstream(serverOf(address)),
      closeUpstream: (fd) => life.closeUpstream(fd),
      tcp,
      openListeners: () => listenerKinds.map((kind) => life.openListener(kind)),
      useHeavy: () => undefined,
      guardListeners: () => undefined,
      attachSelector: () => undefined,
      enlargeBuffers: () => undefined,
      closeFd: (fd) => life.closeFd(fd),
    };
  }

  #createListeners(events: LoopOptions): SimUdpLoop<SimSocket> {
    const { life, thread } = this.#o;
    const { sockets } = life.world;
    return new SimUdpLoop<SimSocket>({
      memory: events.buffer,
      events,
      find: (fd) => life.socketOf(fd),
      onAdd: (socket) => sockets.open(socket),
      onRemove: (socket) => sockets.close(socket),
      send: this.#o.onReply,
      seam: thread.seam,
      records: (records[life.index] as (typeof records)[number]).listeners,
    });
  }

  #createUpstreams(events: LoopOptions): SimUdpLoop<UpstreamSocket> {
    const { life, thread } = this.#o;
    return new SimUdpLoop<UpstreamSocket>({
      memory: events.buffer,
      events,
      find: (fd) => life.upstreamOf(fd),
      onAdd: (socket) => {
        socket.isOpen = true;
      },
      onRemove: (socket) => {
        socket.isOpen = false;
      },
      send: this.#o.onForward,
      seam: thread.seam,
      records: (records[life.index] as (typeof records)[number]).upstreams,
    });
  }
}
