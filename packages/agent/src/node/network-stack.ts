// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Keeps the network rules in place for as long as the agent runs, and says what of them could not be made
 * and which address families the node has. IPv6 that is switched on later gets its rules then.
 */

import {
  type Ipv6State,
  ipv6State,
  ipv6Texts,
  loopbackFix,
} from '@tandem/datapath/address-families';
import type { Degradation } from '@tandem/dns-proxy/admin/degradations';
import type { Logger } from '@tandem/runtime/log';
import {
  ensureNetworkRules,
  type NetworkRulesOptions,
  type RulePart,
  type RuleProblem,
} from './network-rules.ts';

/** What a part is for: what does not work without it. */
const losses: Readonly<Record<RulePart, string>> = {
  'IPv4 routing': 'DNS queries of pods over IPv4 are dropped',
  'IPv6 routing': 'DNS queries of pods over IPv6 are dropped',
  'nft table':
    'each DNS query of a pod takes an entry of conntrack, and replies are dropped where no other rule keeps conntrack on',
};

const loopbackOff: Degradation = {
  code: 'ipv6-loopback-off',
  message: ipv6Texts['no-loopback'],
  fix: `${loopbackFix}, or switch IPv6 off on all interfaces (net.ipv6.conf.all and default)`,
};

export class NetworkStack {
  readonly #options: NetworkRulesOptions;
  readonly #log: Logger;
  #problems: readonly RuleProblem[] = [];
  #ipv6: Ipv6State | null = null;

  constructor(options: NetworkRulesOptions, log: Logger) {
    this.#options = options;
    this.#log = log;
  }

  /** Puts everything in place that can be. Never rejects. */
  async ensure(): Promise<void> {
    const ipv6 = ipv6State();
    if (ipv6 !== this.#ipv6) this.#log.info(ipv6Texts[ipv6], { ipv6 });
    this.#ipv6 = ipv6;
    const problems = await ensureNetworkRules(this.#options);
    const known = new Set(this.#problems.map(({ part, message }) => `${part} ${message}`));
    for (const { part, message } of problems) {
      if (known.has(`${part} ${message}`)) continue;
      this.#log.error('network rules cannot be made, they are tried again', {
        part,
        reason: message,
      });
    }
    if (problems.length === 0 && this.#problems.length > 0) {
      this.#log.info('network rules are in place');
    }
    this.#problems = problems;
  }

  get degradations(): readonly Degradation[] {
    return [
      ...this.#problems.map(({ part, message }) => ({
        code: 'network-rules',
        message: `${part} is not in place, so ${losses[part]}: ${message}`,
        fix: 'fix what the error of the command names; the agent tries again every few seconds',
      })),
      ...(this.#ipv6 === 'no-loopback' ? [loopbackOff] : []),
    ];
  }
}
