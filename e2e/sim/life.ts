// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One process from its start to its end: two threads, its descriptors, and what the kernel takes back
 * when it is gone.
 */

import { agentMember, type MemberIndex } from '@tandem/datapath/member';
import { createSharedRing } from '@tandem/runtime/shared-ring';
import { MainThread } from './main-thread.ts';
import { killed } from './seam.ts';
import { ringBytes } from './sizes.ts';
import { SimSocket } from './sockets.ts';
import { backendOf } from './universe-objects.ts';
import type { UpstreamSocket } from './upstream.ts';
import { SimWorker } from './worker.ts';
import type { World } from './world.ts';

/** A thread runs, or waits at a seam of its own while others run. */
export class Thread {
  readonly life: Life;
  readonly name: string;
  isBusy = false;

  constructor(life: Life, name: string) {
    this.life = life;
    this.name = name;
  }

  /** See seam.ts. */
  readonly seam = (): void => {
    const { life } = this;
    if (!life.isDead) life.world.preempt(this);
    if (life.isDead) throw killed;
  };

  run(turn: () => void): void {
    this.isBusy = true;
    try {
      turn();
    } catch (error) {
      if (error !== killed) throw error;
    } finally {
      this.isBusy = false;
    }
  }
}

export class Life {
  readonly world: World;
  /** 0 agent, 1 proxy. */
  readonly index: MemberIndex;
  readonly name: string;
  /** CLOCK_BOOTTIME ns of its start. */
  readonly epochNs: number;
  readonly ring: SharedArrayBuffer = createSharedRing(ringBytes);
  readonly threads: readonly [Thread, Thread];
  readonly main: MainThread;
  worker: SimWorker | null = null;
  isDead = false;
  isDraining = false;
  /** SIGSTOP, until then. */
  frozenUntilNs = 0;
  /** Called at its end. */
  readonly onEnd: (() => void)[] = [];
  readonly #fds = new Map<number, SimSocket>();
  readonly #upstreams = new Map<number, UpstreamSocket>();

  constructor(world: World, index: MemberIndex, number: number) {
    this.world = world;
    this.index = index;
    this.name = `${index === agentMember ? 'agent' : 'proxy'}#${number}`;
    this.epochNs = world.bootNs;
    this.threads = [new Thread(this, 'worker'), new Thread(this, 'main')];
    this.main = new MainThread(this, this.threads[1]);
  }

  /** One turn of a thread's loop. */
  turn(thread: Thread): void {
    if (thread === this.threads[1]) thread.run(() => this.main.iterate());
    else if (this.worker !== null) thread.run(() => this.worker?.iterate());
    else {
      thread.run(() => {
        this.worker = new SimWorker(this, thread);
        this.world.onStarted(this);
      });
    }
  }

  get isFrozen(): boolean {
    return this.frozenUntilNs > this.world.nowNs;
  }

  openListener(kind: number): number {
    const socket = new SimSocket(kind, this.index);
    const fd = this.hold(socket);
    this.world.sockets.listen(socket);
    return fd;
  }

  /** A descriptor of the socket for this process, as SCM_RIGHTS gives it. */
  hold(socket: SimSocket): number {
    const fd = this.world.nextFd();
    this.#fds.set(fd, socket);
    this.world.sockets.open(socket);
    return fd;
  }

  socketOf(fd: number): SimSocket {
    const socket = this.#fds.get(fd);
    if (socket === undefined) throw new TypeError(`descriptor ${fd} is not open`);
    return socket;
  }

  closeFd(fd: number): void {
    const socket = this.socketOf(fd);
    this.#fds.delete(fd);
    this.world.sockets.close(socket);
  }

  openUpstream(server: number): number {
    const fd = this.world.nextFd();
    const backend = server === 0 ? backendOf(this.worker?.policy?.variant ?? 0) : '';
    this.#upstreams.set(fd, {
      server,
      queue: [],
      isOpen: false,
      error: 0,
      hasFailed: false,
      refused: [],
      backend,
    });
    return fd;
  }

  upstreamOf(fd: number): UpstreamSocket {
    return this.#upstreams.get(fd) as UpstreamSocket;
  }

  closeUpstream(fd: number): void {
    this.#upstreams.delete(fd);
  }

  /** `learn`, run by a thread that may be stopped before and after it. */
  learnProgram(thread: Thread): { readonly runSyscall: (args: Uint8Array) => number } {
    return {
      runSyscall: (args) => {
        thread.seam();
        this.world.fqdn.run(args);
        thread.seam();
        return 0;
      },
    };
  }

  /** The process is gone, and the kernel closes what it had. */
  end(how: 'is killed' | 'stops'): void {
    if (this.isDead) return;
    const { world } = this;
    world.trace.note(how, 0, 0, 0, this.name);
    this.isDead = true;
    world.dying = this;
    this.worker?.onDeath();
    world.links.onDeath(this);
    for (const end of this.onEnd.splice(0)) end();
    for (const socket of this.#fds.values()) world.sockets.close(socket);
    this.#fds.clear();
    world.dying = null;
    world.onEnded(this);
  }
}
