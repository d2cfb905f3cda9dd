// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Datagrams that find no socket, or were in a socket when its last descriptor was closed: an excuse, or a fault of the members. */

import { tdListenerKind } from '@tandem/datapath/abi.gen';
import { firstLane } from '@tandem/dns-proxy/listener-kinds';
import type { Life } from './life.ts';
import type { SimSocket } from './sockets.ts';
import type { World } from './world.ts';

export class SocketLoss {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  /** Nobody to ask: as if there were no proxy, unless somebody lives. */
  onSilence(what: string): void {
    this.#world.oracle.counts.silent += 1;
    const living = this.#world.lives.find(
      (life) => life?.worker?.member.hasJoined === true && !life.isDraining,
    );
    if (living != null)
      this.#world.oracle.fail(5, `${what} finds no socket, but ${living.name} lives`);
    this.#checkBothLeft(what);
  }

  /** Each of two that drain waits for the token until its own time is up. */
  #checkBothLeft(what: string): void {
    const [agent, proxy] = this.#world.lives;
    const hasJoined = (life: Life | null): life is Life => life?.worker?.member.hasJoined === true;
    if (!hasJoined(agent) || !hasJoined(proxy)) return;
    const untilNs = Math.min(agent.main.tokenDeadlineNs, proxy.main.tokenDeadlineNs);
    if (this.#world.nowNs >= untilNs) return;
    this.#world.oracle.fail(5, `${what} finds no socket: both members left`);
  }

  /** The last descriptor is gone, with what was queued. */
  onSocketLost(socket: SimSocket): void {
    const { dying } = this.#world;
    const heir = this.#world.lives.find(
      (life) => life !== null && life !== dying && life.worker?.member.hasJoined === true,
    );
    for (const number of socket.queue.splice(0)) {
      if (firstLane(socket.kind) !== tdListenerKind.UDP4) {
        // `select_member` is the migrate program too: what nobody accepted moves to a member that lives.
        const target = this.#world.sockets.select(socket.kind, number);
        if (target !== null) target.queue.push(number);
        else this.#onConnectionLost(number, heir ?? null);
        continue;
      }
      if (dying === null) continue;
      if (heir != null && socket.member === dying.index && this.#world.links.mustBeLinked)
        this.#world.oracle.fail(
          2,
          `query ${number} is lost with its socket, ${heir.name} has no descriptor`,
        );
      this.#world.oracle.excuse(
        this.#world.oracle.queries[number],
        heir == null
          ? 'nobody else lived when its socket closed'
          : 'the members had not linked yet',
      );
    }
  }

  #onConnectionLost(number: number, heir: Life | null): void {
    const { oracle, tcp } = this.#world;
    if (heir !== null && !heir.isDraining)
      oracle.fail(5, `connection ${number} is lost unaccepted, but ${heir.name} lives`);
    tcp.clients[number]?.lose('nobody else lived when its socket closed');
  }
}
