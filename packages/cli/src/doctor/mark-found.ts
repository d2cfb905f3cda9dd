// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The mark that `tandem doctor` speaks of: the one in force, or the one that the agent would take. */

import { chooseMark, firewallUsers, routingUsers } from '@tandem/agent/firewall/mark';
import type { FirewallView } from '@tandem/agent/firewall/read';
import type { NodeNetwork } from '@tandem/agent/node/node-network';
import { markCandidates } from '@tandem/datapath/config';
import { readGroupSettings } from '../node/pins.ts';
import type { Settings } from '../settings.ts';
import type { DoctorContext } from './check.ts';

export type MarkFound = Pick<DoctorContext, 'mark' | 'inForce' | 'markProblem' | 'markUsers'> & {
  /** Sources that could not be read, and why. */
  readonly unread: readonly string[];
};

export function findMark(
  settings: Settings,
  firewall: FirewallView,
  { state, problems }: NodeNetwork,
): MarkFound {
  const users = [...firewallUsers(firewall), ...routingUsers(state.rules, settings.routingTable)];
  const unreadRules = problems.get('rules');
  const read = readGroupSettings(settings.bpffsDir);
  const inForce = read.ok ? read.value : null;
  const chosen = chooseMark({ wanted: settings.mark, inForce: null, users });
  const wanted = settings.mark === 'auto' ? markCandidates[0] : settings.mark;
  return {
    mark: inForce?.mark ?? (chosen.ok ? chosen.value.mark : wanted),
    inForce,
    markProblem: chosen.ok ? '' : chosen.error,
    markUsers: users,
    unread: unreadRules === undefined ? [] : [`routing rules: ${unreadRules}`],
  };
}
