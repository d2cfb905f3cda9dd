// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Who else is at port P? A socket of the members' uid may join their group, and could then choose who
 * gets pods' queries until our program is put back (safety rule 11). None but the members' own, which are
 * in `listeners`, belongs there: any other is told.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { TD_MEMBERS_MAX, tdListenerKind } from '@tandem/datapath/abi.gen';
import type { Datapath } from '@tandem/datapath/datapath';
import type { Degradation } from '@tandem/dns-proxy/admin/degradations';
import type { Logger } from '@tandem/runtime/log';
import { TandemError } from '@tandem/runtime/tandem-error';
import { run } from './command.ts';

export interface BoundSocket {
  /** The kernel's name of a socket, never given twice (SO_COOKIE). */
  readonly cookie: bigint;
  /** As ss(8) shows it. */
  readonly text: string;
}

/** A member that starts binds its sockets a moment before it registers them. */
const settleMs = 200;

export class GroupAudit {
  readonly #datapath: Datapath;
  readonly #port: number;
  readonly #log: Logger;
  #foreign: readonly BoundSocket[] = [];

  constructor(datapath: Datapath, port: number, log: Logger) {
    this.#datapath = datapath;
    this.#port = port;
    this.#log = log;
  }

  /** Looks; what is new is logged. Never rejects. */
  async look(): Promise<void> {
    try {
      let foreign = await this.#find();
      if (foreign.length > 0) {
        await delay(settleMs);
        const seen = new Set(foreign.map(({ cookie }) => cookie));
        foreign = (await this.#find()).filter(({ cookie }) => seen.has(cookie));
      }
      const known = new Set(this.#foreign.map(({ cookie }) => cookie));
      for (const { cookie, text } of foreign) {
        if (!known.has(cookie))
          this.#log.error('foreign-socket: at the port of DNS', { socket: text });
      }
      this.#foreign = foreign;
    } catch (error) {
      this.#log.error('sockets at the port of DNS could not be listed', {
        error: TandemError.from(error),
      });
    }
  }

  /** What the last look found. */
  get degradations(): readonly Degradation[] {
    if (this.#foreign.length === 0) return [];
    const sockets = this.#foreign.map(({ text }) => text).join('; ');
    return [
      {
        code: 'foreign-socket',
        message: `sockets that are no member's are bound to port ${this.#port} and may take pods' queries: ${sockets}`,
        fix: `find their process with ss -lnptu 'sport = :${this.#port}' and stop it; nothing else may run as the uid of the DNS proxy`,
      },
    ];
  }

  async #find(): Promise<readonly BoundSocket[]> {
    const text = await run('ss', ['-H', '-l', '-n', '-u', '-t', '-e', `sport = :${this.#port}`]);
    const registered = registeredCookies(this.#datapath);
    return parseSockets(text).filter(({ cookie }) => !registered.has(cookie));
  }
}

/** Lines of ss -e; those without a cookie are left out. */
export function parseSockets(text: string): readonly BoundSocket[] {
  return text.split('\n').flatMap((line) => {
    const cookie = /\ssk:([0-9a-f]+)(?:\s|$)/.exec(line)?.[1];
    if (cookie === undefined) return [];
    return [{ cookie: BigInt(`0x${cookie}`), text: line.trim().replaceAll(/\s+/g, ' ') }];
  });
}

function registeredCookies(datapath: Datapath): ReadonlySet<bigint> {
  const listeners = datapath.map('listeners');
  const cookies = new Set<bigint>();
  for (let index = 0; index < tdListenerKind.KINDS * TD_MEMBERS_MAX; index++) {
    const value = listeners.lookup(new Uint8Array(Uint32Array.of(index).buffer));
    if (value !== null)
      cookies.add(new DataView(value.buffer, value.byteOffset).getBigUint64(0, true));
  }
  return cookies;
}
