// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The mark in force, and which rules of others use it: found at the start, when it can be chosen, and looked
 * for after each change of the node's rules, when it can only be reported. Programs are started for nft and
 * iptables alone, and only after a notice of the kernel's; the legacy variant of iptables gives none.
 */

import { readPinnedSettings } from '@tandem/datapath/group-settings';
import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import type { NetworkView } from '@tandem/netlink/network-view';
import { NFPROTO_ARP, NFPROTO_INET, NFPROTO_NETDEV, NftWatch } from '@tandem/netlink/nft-watch';
import type { Logger } from '@tandem/runtime/log';
import { systemClock } from '@tandem/runtime/system-clock';
import { TandemError } from '@tandem/runtime/tandem-error';
import { firewallReadMs, firewallReadShare, firewallSettleMs } from '../limits.ts';
import { nftTable } from '../node/nft-table.ts';
import { redirectTable } from '../redirect/redirect-rules.ts';
import {
  chooseMark,
  firewallUsers,
  listUsers,
  type MarkUser,
  routingUsers,
  takers,
} from './mark.ts';
import { readFirewall } from './read.ts';

export interface MarkWatchOptions {
  readonly view: NetworkView;
  readonly wanted: number | 'auto';
  readonly pinRoot: string;
  readonly routingTable: number;
  readonly log: Logger;
}

export class MarkWatch {
  readonly #o: MarkWatchOptions;
  #mark = 0;
  #firewall: readonly MarkUser[] = [];
  /** Number of sources that could not be read when `#firewall` was. */
  #unread = Number.POSITIVE_INFINITY;
  #hasFailed = false;
  #watch: NftWatch | null = null;
  #timer: NodeJS.Timeout | null = null;
  #reading: Promise<void> | null = null;
  #isStopped = false;
  #readMs = 0;
  #tookMs = 0;

  constructor(options: MarkWatchOptions) {
    this.#o = options;
  }

  /** @throws TandemError with the fix: no bit can be taken */
  async choose(): Promise<number> {
    const { wanted, pinRoot, log } = this.#o;
    this.#startWatch();
    const unread = await this.#read();
    if (unread.length > 0) {
      log.warn(
        'firewall or routing rules of the node cannot be read, so the mark bits that they use are unknown',
        {
          reasons: unread,
        },
      );
    }
    const inForce = readPinnedSettings(pinRoot)?.mark ?? null;
    const chosen = chooseMark({ wanted, inForce, users: this.#users() });
    if (!chosen.ok) throw new TandemError('TANDEM_MARK', chosen.error);
    const { mark, why } = chosen.value;
    this.#mark = mark;
    log.info('mark of steered packets', { mark: `0x${mark.toString(16)}`, why });
    return mark;
  }

  /** The bit that is used, where it is not the chosen one. */
  keep(mark: number): void {
    this.#mark = mark;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#watch?.close();
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#reading;
  }

  get degradations(): readonly Degradation[] {
    const taken = takers(this.#users(), this.#mark);
    if (this.#mark === 0 || taken.length === 0) return [];
    const fix =
      this.#o.wanted === 'auto'
        ? 'remove the bit from those rules, or restart the agent: it takes a free bit, and the DNS proxy follows'
        : 'remove the bit from those rules, or set mark to auto or to a free bit for both processes, and restart the agent, then the DNS proxy';
    return [
      degradation('mark-taken', {
        message: `other rules use bit 0x${this.#mark.toString(16)} of the packet mark, which steers DNS of pods, and may drop or misroute DNS queries (verification of source addresses does not use the mark): ${listUsers(taken)}`,
        fix,
      }),
    ];
  }

  #users(): readonly MarkUser[] {
    const { view, routingTable } = this.#o;
    return [...this.#firewall, ...routingUsers(view.state.rules, routingTable)];
  }

  /** Before the first reading: what changes meanwhile is read again. */
  #startWatch(): void {
    try {
      this.#watch = new NftWatch({
        tables: [
          ...[NFPROTO_INET, NFPROTO_ARP, NFPROTO_NETDEV].map((family) => ({
            family,
            name: nftTable,
          })),
          { family: NFPROTO_INET, name: redirectTable },
        ],
        isOther: true,
        onChange: () => this.#readSoon(),
      });
    } catch (error) {
      this.#o.log.warn(
        'changes of nft and iptables cannot be watched: new rules that use the mark are not detected',
        {
          error: TandemError.from(error),
        },
      );
    }
  }

  /** Programs like kube-proxy write rules all the time: reading them is a bounded share of the time. */
  #readSoon(): void {
    if (this.#isStopped || this.#timer !== null) return;
    const sinceMs = systemClock.monotonicMs() - this.#readMs;
    const pauseMs = Math.max(firewallReadMs, this.#tookMs / firewallReadShare) - sinceMs;
    this.#timer = setTimeout(
      () => {
        this.#timer = null;
        this.#reading = this.#read().then(() => undefined);
      },
      Math.max(firewallSettleMs, pauseMs),
    );
    this.#timer.unref();
  }

  /** @returns what could not be read. Never rejects */
  async #read(): Promise<readonly string[]> {
    const sinceMs = systemClock.monotonicMs();
    const firewall = await readFirewall();
    const { unread } = firewall;
    this.#readMs = systemClock.monotonicMs();
    this.#tookMs = this.#readMs - sinceMs;
    // A program that failed once, as by its timeout under load, does not make a rule that uses the mark disappear.
    const isFailed = unread.length > this.#unread;
    if (isFailed) {
      if (!this.#hasFailed) {
        this.#o.log.warn('rules of the node cannot be read any more, and will be read again', {
          reasons: unread,
        });
      }
      this.#readSoon();
    } else {
      this.#firewall = firewallUsers(firewall);
      this.#unread = unread.length;
    }
    this.#hasFailed = isFailed;
    return unread;
  }
}
