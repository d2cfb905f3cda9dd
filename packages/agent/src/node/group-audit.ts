// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Foreign sockets at port P. A socket of the members' uid may join their group, and could then choose who gets pods' queries
 * until our program is put back (safety rule 11). None but the members' own, which are in `listeners` and `heavy_listeners`,
 * belongs there: `status` names every other socket.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { formatAddress } from '@tandem/core/net/ip';
import type { Datapath } from '@tandem/datapath/datapath';
import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import { type BoundSocket, SocketDiagnostics } from '@tandem/netlink/sock-diag';
import type { Logger } from '@tandem/runtime/log';
import { TandemError } from '@tandem/runtime/tandem-error';

/** A member that starts binds its sockets a moment before it registers them. */
const settleMs = 200;

export class GroupAudit {
  readonly #datapath: Datapath;
  readonly #port: number;
  readonly #log: Logger;
  readonly #diagnostics = new SocketDiagnostics();
  #foreign: readonly BoundSocket[] = [];
  #isClosed = false;

  constructor(datapath: Datapath, port: number, log: Logger) {
    this.#datapath = datapath;
    this.#port = port;
    this.#log = log;
  }

  /** Checks the group, and logs new findings. Never rejects. */
  async look(): Promise<void> {
    try {
      let foreign = await this.#find();
      if (foreign.length > 0) {
        await delay(settleMs);
        const seen = new Set(foreign.map(({ cookie }) => cookie));
        foreign = (await this.#find()).filter(({ cookie }) => seen.has(cookie));
      }
      const known = new Set(this.#foreign.map(({ cookie }) => cookie));
      for (const socket of foreign) {
        if (!known.has(socket.cookie))
          this.#log.error('foreign-socket: a socket that belongs to no member is bound to port P', {
            socket: describe(socket),
          });
      }
      this.#foreign = foreign;
    } catch (error) {
      if (this.#isClosed) return;
      this.#log.error('sockets that are bound to port P cannot be listed', {
        error: TandemError.from(error),
      });
    }
  }

  /** Degradations of the last look. */
  get degradations(): readonly Degradation[] {
    if (this.#foreign.length === 0) return [];
    const sockets = this.#foreign.map(describe).join('; ');
    return [
      degradation('foreign-socket', {
        message: `sockets that belong to no member are bound to port ${this.#port} and may receive DNS queries of pods: ${sockets}`,
        fix: `find their process with ss -lnptu 'sport = :${this.#port}' and stop it; run no other program as the uid of the DNS proxy`,
      }),
    ];
  }

  /** A look that runs ends, and says nothing. */
  close(): void {
    this.#isClosed = true;
    this.#diagnostics.close();
  }

  async #find(): Promise<readonly BoundSocket[]> {
    const bound = await this.#diagnostics.boundTo(this.#port);
    const registered = registeredCookies(this.#datapath);
    return bound.filter(({ cookie }) => !registered.has(cookie));
  }
}

export function describe({ protocol, address, port, uid, inode }: BoundSocket): string {
  const text = address === null ? '?' : formatAddress(address);
  const host = text.includes(':') ? `[${text}]` : text;
  return `${protocol} ${host}:${port} uid ${uid} inode ${inode}`;
}

function registeredCookies(datapath: Datapath): ReadonlySet<bigint> {
  const cookies = new Set<bigint>();
  for (const name of ['listeners', 'heavy_listeners'] as const) {
    const listeners = datapath.map(name);
    for (let index = 0; index < listeners.maxEntries; index++) {
      const value = listeners.lookup(new Uint8Array(Uint32Array.of(index).buffer));
      if (value !== null)
        cookies.add(new DataView(value.buffer, value.byteOffset).getBigUint64(0, true));
    }
  }
  return cookies;
}
