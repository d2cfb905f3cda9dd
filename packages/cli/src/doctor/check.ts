// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Input and result of a check of `tandem doctor`. */

import type { MarkUser } from '@tandem/agent/firewall/mark';
import type { FirewallView } from '@tandem/agent/firewall/read';
import type { NodeNetwork } from '@tandem/agent/node/node-network';
import type { GroupSettings } from '@tandem/datapath/group';
import type { PinnedEndpoint } from '../node/pins.ts';
import type { Settings } from '../settings.ts';
import type { CheckCode } from './check-codes.ts';

/** `skip`: it makes no sense here, or needs what an earlier check misses. */
export const checkStatuses = ['pass', 'info', 'skip', 'warn', 'fail'] as const;
export type CheckStatus = (typeof checkStatuses)[number];

/** One element of `checks` in the JSON. */
export interface CheckResult {
  readonly check: CheckCode;
  readonly status: CheckStatus;
  /** Finding and consequence. */
  readonly why: string;
  /** A command, or what to do where no command can; null when there is nothing to do. */
  readonly fix: string | null;
}

/** Data that several checks use, read once. */
export interface DoctorContext {
  readonly settings: Settings;
  /** Bit of the packet mark of steered packets: in force, or else what the agent would take. */
  readonly mark: number;
  /** Settings with which the programs in force were loaded; null: nothing is pinned, or they do not record them. */
  readonly inForce: GroupSettings | null;
  /** Why the agent would take no bit; empty: it would take `mark`. */
  readonly markProblem: string;
  /** Rules of others that use bits of the mark. */
  readonly markUsers: readonly MarkUser[];
  /** Before Tandem runs: what only a running one has is skipped. */
  readonly isPreflight: boolean;
  /** Null: nothing is pinned, or it may not be read. */
  readonly endpoints: readonly PinnedEndpoint[] | null;
  readonly firewall: FirewallView;
  readonly network: NodeNetwork;
}

export type Check = (
  context: DoctorContext,
) => readonly CheckResult[] | Promise<readonly CheckResult[]>;

type Verb = (check: CheckCode, why: string, fix?: string) => CheckResult;
const verb =
  (status: CheckStatus): Verb =>
  (check, why, fix) => ({ check, status, why, fix: fix ?? null });

export const pass: Verb = verb('pass');
export const info: Verb = verb('info');
export const skip: Verb = verb('skip');
export const warn: Verb = verb('warn');
export const fail: Verb = verb('fail');
