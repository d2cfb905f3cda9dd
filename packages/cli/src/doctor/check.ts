// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What a check of `tandem doctor` is given and says. */

import type { Chain } from '../firewall/rule.ts';
import type { PinnedEndpoint } from '../node/pins.ts';
import type { Settings } from '../settings.ts';

/** `skip`: it makes no sense here, or needs what an earlier check misses. */
export const checkStatuses = ['pass', 'info', 'skip', 'warn', 'fail'] as const;
export type CheckStatus = (typeof checkStatuses)[number];

/** One element of `checks` in the JSON. */
export interface CheckResult {
  /** Stable, for scripts: "port-in-use". */
  readonly check: string;
  readonly status: CheckStatus;
  /** What was found and what follows from it. */
  readonly why: string;
  /** A command, or what to do where no command can; null when there is nothing to do. */
  readonly fix: string | null;
}

/** What several checks look at, read once. */
export interface DoctorContext {
  readonly settings: Settings;
  /** Bit of the packet mark of steered packets. */
  readonly mark: number;
  /** Before Tandem runs: what only a running one has is skipped. */
  readonly isPreflight: boolean;
  /** Null: nothing is pinned, or it may not be read. */
  readonly endpoints: readonly PinnedEndpoint[] | null;
  readonly firewall: FirewallView;
}

export interface FirewallView {
  /** Chains of nft and iptables, without Tandem's own table. */
  readonly chains: readonly Chain[];
  /** What could not be read, and why. */
  readonly unread: readonly string[];
}

export type Check = (
  context: DoctorContext,
) => readonly CheckResult[] | Promise<readonly CheckResult[]>;

type Verb = (check: string, why: string, fix?: string) => CheckResult;
const verb =
  (status: CheckStatus): Verb =>
  (check, why, fix) => ({ check, status, why, fix: fix ?? null });

export const pass: Verb = verb('pass');
export const info: Verb = verb('info');
export const skip: Verb = verb('skip');
export const warn: Verb = verb('warn');
export const fail: Verb = verb('fail');
