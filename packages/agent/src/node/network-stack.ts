// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Keeps the network rules in place while the agent runs: it notices a removed rule and restores it at once. It reports rules
 * that could not be made, and the address families of the node. If IPv6 is switched on later, its rules are made
 * then.
 */

import {
  type Ipv6State,
  ipv6State,
  ipv6Texts,
  loopbackFix,
} from '@tandem/datapath/address-families';
import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import { LOOPBACK_IFINDEX } from '@tandem/netlink/constants';
import type { NetworkView } from '@tandem/netlink/network-view';
import { NFPROTO_ARP, NFPROTO_INET, NFPROTO_NETDEV } from '@tandem/netlink/nft-watch';
import type { Logger } from '@tandem/runtime/log';
import { systemClock } from '@tandem/runtime/system-clock';
import { TandemError } from '@tandem/runtime/tandem-error';
import { arpReadMs, repairIntervalMs } from '../limits.ts';
import { ArpGuard, type PodPorts } from './arp-guard.ts';
import {
  attemptAll,
  ensureNetworkRules,
  type NetworkRulesOptions,
  type RulePart,
  type RuleProblem,
  ruleParts,
} from './network-rules.ts';
import { nftTable } from './nft-table.ts';
import { TableWatch } from './table-watch.ts';

/** Consequence of the absence of each part that DNS needs. */
const losses: Readonly<Record<Exclude<RulePart, 'ARP tables'>, string>> = {
  'IPv4 routing': 'DNS queries of pods over IPv4 are dropped',
  'IPv6 routing': 'DNS queries of pods over IPv6 are dropped',
  'nft table':
    'each DNS query of a pod takes an entry of conntrack, and replies are dropped where no other rule enables conntrack',
};

const loopbackOff: Degradation = degradation('ipv6-loopback-off', {
  message: ipv6Texts['no-loopback'],
  fix: `${loopbackFix}, or disable IPv6 on all interfaces (net.ipv6.conf.all and default)`,
});

const quarrel: Degradation = degradation('network-rules', {
  message: `the nft table ${nftTable} changes again and again, so it is restored at most once a second, and until then ${losses['nft table']}`,
  fix: 'find the program that changes it by nft monitor, and let it leave this table alone',
});

const arpQuarrel: Degradation = degradation('arp-unguarded', {
  message: `the nft tables arp ${nftTable} and netdev ${nftTable} change again and again, so they are restored at most once a second, and until then an unknown pod behind a bridge can make entries in the node's neighbour table, or ARP of its trusted ports is dropped`,
  fix: 'find the program that changes them by nft monitor, and let it leave these tables alone',
});

const arpUnguarded = (reason: string): Degradation => {
  const { code, message, fix } = degradation('arp-unguarded');
  return { code, message: `${message} (${reason})`, fix };
};

/** Steered packets are delivered by the loopback interface. */
const loopbackUp = 'ip link set lo up: the loopback interface is down';

export class NetworkStack {
  /** Rules and routes that were removed or changed since `start`, and are restored. */
  readonly counters = { routingRestored: 0, tableRestored: 0, tableDelayed: 0, failed: 0 };
  readonly #view: NetworkView;
  readonly #options: NetworkRulesOptions;
  readonly #log: Logger;
  readonly #arp: ArpGuard;
  #problems: readonly RuleProblem[] = [];
  #ipv6: Ipv6State | null = null;
  /** The nft table, apart from those of ARP: one quarrel does not slow the other's looks. */
  readonly #nft = this.#watchOf(NFPROTO_INET);
  readonly #arpTables = this.#watchOf(NFPROTO_ARP, NFPROTO_NETDEV);
  #arpReadMs = Number.NEGATIVE_INFINITY;
  #ignoreView: (() => void) | null = null;
  /** Everything was looked at once. */
  #isStarted = false;
  #isDirty = false;
  #isStopped = false;
  #running: Promise<void> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #repairedMs = Number.NEGATIVE_INFINITY;

  constructor(view: NetworkView, options: NetworkRulesOptions, log: Logger) {
    this.#view = view;
    this.#options = options;
    this.#log = log;
    this.#arp = new ArpGuard(options.mark);
  }

  /** Puts everything in place that can be, and goes on doing so when it changes. Never rejects. */
  async start(): Promise<void> {
    try {
      for (const tables of [this.#nft, this.#arpTables]) tables.start();
    } catch (error) {
      this.#log.warn('changes of the nft table cannot be watched: it is read every few seconds', {
        error: TandemError.from(error),
      });
    }
    this.#ignoreView = this.#view.onChange((kinds) => {
      // IPv6 is switched on for an interface: it gets an address. What failed may work now: lo is up again.
      const isConcerned = kinds.has('rules') || kinds.has('routes') || kinds.has('addresses');
      const isAwaiting = this.#problems.some(({ part }) => part !== 'ARP tables');
      if (isConcerned || (kinds.has('links') && isAwaiting)) this.#repairSoon();
    });
    await this.#look();
  }

  /** Leaves everything in place; when this resolves, nothing is restored any more. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#ignoreView?.();
    for (const tables of [this.#nft, this.#arpTables]) tables.stop();
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#running;
  }

  /** From now on ARP of unknown pods is dropped at these bridges; after pods' programs are attached. Never rejects. */
  async guardArp(ports: PodPorts): Promise<void> {
    if (!this.#arp.set(ports)) return;
    this.#arpTables.expire();
    await this.#look();
  }

  /**
   * Puts everything in place that can be; starts no program where nothing changed, but once in `arpReadMs` where a bridge of pods has
   * trusted ports. For the periodic round: what failed of ARP is tried again. Never rejects.
   */
  async ensure(): Promise<void> {
    const isFailed = this.#problems.some(({ part }) => part === 'ARP tables');
    const isOld =
      this.#arp.hasTrustedPorts && systemClock.monotonicMs() - this.#arpReadMs >= arpReadMs;
    if (isFailed || isOld || !this.#arpTables.isWatched) this.#arpTables.expire();
    await this.#look();
  }

  #watchOf(...families: readonly number[]): TableWatch {
    return new TableWatch({
      families,
      onDue: () => this.#repairSoon(),
      onDelay: () => {
        this.counters.tableDelayed += 1;
      },
    });
  }

  async #look(): Promise<void> {
    if (this.#isStopped) return;
    this.#isDirty = true;
    this.#running ??= this.#run();
    await this.#running;
  }

  /** Another program that removes what we make does not keep us busy. */
  #repairSoon(): void {
    const sinceMs = systemClock.monotonicMs() - this.#repairedMs;
    this.#timer ??= setTimeout(
      () => {
        this.#timer = null;
        this.#repairedMs = systemClock.monotonicMs();
        void this.#look();
      },
      Math.max(0, repairIntervalMs - sinceMs),
    );
  }

  async #run(): Promise<void> {
    while (this.#isDirty && !this.#isStopped) {
      this.#isDirty = false;
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await this.#once();
    }
    this.#running = null;
  }

  async #once(): Promise<void> {
    const ipv6 = ipv6State();
    if (ipv6 !== this.#ipv6) this.#log.info(ipv6Texts[ipv6], { ipv6 });
    this.#ipv6 = ipv6;
    const isNftRead = this.#nft.take() || !this.#nft.isWatched;
    const isArpRead = this.#arpTables.take();
    if (isArpRead) this.#arpReadMs = systemClock.monotonicMs();
    const parts = new Set(ruleParts.filter((part) => isNftRead || part.endsWith(' routing')));
    const onWritten = (part: RulePart): void => {
      if (!this.#isStarted) return;
      this.counters[part.endsWith(' routing') ? 'routingRestored' : 'tableRestored'] += 1;
    };
    const failed = [
      ...(await ensureNetworkRules(this.#view, this.#options, parts, onWritten)),
      ...(isArpRead ? await attemptAll([['ARP tables', () => this.#arp.ensure()]], onWritten) : []),
    ];
    this.#isStarted = true;
    this.counters.failed += failed.length;
    if (failed.some(({ part }) => part === 'nft table')) this.#nft.expire();
    const untried = isArpRead ? [] : this.#problems.filter(({ part }) => part === 'ARP tables');
    const problems = [...failed, ...untried];
    const known = new Set(this.#problems.map(({ part, message }) => `${part} ${message}`));
    for (const { part, message } of problems) {
      if (known.has(`${part} ${message}`)) continue;
      this.#log.error('network rules cannot be set up and will be tried again', {
        part,
        reason: message,
      });
    }
    if (problems.length === 0 && this.#problems.length > 0) {
      this.#log.info('network rules are set up');
    }
    this.#problems = problems;
  }

  #isLoopbackUp(): boolean {
    return this.#view.state.links.get(LOOPBACK_IFINDEX)?.isUp ?? true;
  }

  get degradations(): readonly Degradation[] {
    return [
      ...this.#problems.map(({ part, message }) =>
        part === 'ARP tables'
          ? arpUnguarded(message)
          : degradation('network-rules', {
              message: `${part} cannot be set up, so ${losses[part]}: ${message}`,
              ...(this.#isLoopbackUp() ? {} : { fix: loopbackUp }),
            }),
      ),
      ...(this.#nft.isSlowed ? [quarrel] : []),
      ...(this.#arpTables.isSlowed ? [arpQuarrel] : []),
      ...(this.#ipv6 === 'no-loopback' ? [loopbackOff] : []),
    ];
  }
}
