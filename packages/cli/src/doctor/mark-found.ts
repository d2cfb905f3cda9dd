// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The mark that `tandem doctor` speaks of: the one in force, or the one that the agent would take. */

import { chooseMark, firewallUsers, routingUsers } from '@tandem/agent/firewall/mark';
import { type FirewallView, readRoutingRules } from '@tandem/agent/firewall/read';
import { markCandidates } from '@tandem/datapath/config';
import { TandemError } from '@tandem/runtime/tandem-error';
import { readGroupSettings } from '../node/pins.ts';
import type { Settings } from '../settings.ts';
import type { DoctorContext } from './check.ts';

export type MarkFound = Pick<DoctorContext, 'mark' | 'inForce' | 'markProblem' | 'markUsers'> & {
  /** What could not be read, and why. */
  readonly unread: readonly string[];
};

export async function findMark(settings: Settings, firewall: FirewallView): Promise<MarkFound> {
  const unread: string[] = [];
  const rules = await readRoutingRules().catch((error: unknown) => {
    unread.push(TandemError.from(error).message);
    return [];
  });
  const users = [...firewallUsers(firewall), ...routingUsers(rules, settings.routingTable)];
  const read = readGroupSettings(settings.bpffsDir);
  const inForce = read.ok ? read.value : null;
  const chosen = chooseMark({ wanted: settings.mark, inForce: null, users });
  const wanted = settings.mark === 'auto' ? markCandidates[0] : settings.mark;
  return {
    mark: inForce?.mark ?? (chosen.ok ? chosen.value.mark : wanted),
    inForce,
    markProblem: chosen.ok ? '' : chosen.error,
    markUsers: users,
    unread,
  };
}
