// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The bit of the packet mark that steers DNS of pods: which one it is, and who else uses it. */

import { conflictOf, listUsers, type MarkUser } from '@tandem/agent/firewall/mark';
import { ipv6State } from '@tandem/datapath/address-families';
import { memberSettings } from '@tandem/dns-proxy/config';
import { settingsProblem } from '@tandem/dns-proxy/settings';
import {
  type Check,
  type CheckResult,
  type DoctorContext,
  fail,
  pass,
  skip,
  warn,
} from './check.ts';
import { hex } from './system.ts';

/** Sources are verified by interface, so this is all that depends on the bit. */
const steeringOnly = 'policy and the sources of packets do not depend on it';

export const checkMarks: Check = (context) => [
  checkSettings(context),
  checkUsers(context, 'firewall'),
  checkUsers(context, 'routing4'),
  ipv6State() === 'absent'
    ? skip('mark-routing6', 'the kernel has no IPv6')
    : checkUsers(context, 'routing6'),
];

function checkSettings({ settings, inForce, mark, markProblem }: DoctorContext): CheckResult {
  const check = 'mark';
  if (inForce !== null) {
    const problem = settingsProblem(memberSettings(settings), inForce);
    if (problem !== '') {
      return fail(
        check,
        `the settings are not those in force, and a process that has them serves no DNS: ${problem}`,
        'give both processes and doctor the same --port, --mark and --proxy-uid; restart the agent first, then the DNS proxy',
      );
    }
    return pass(check, `bit ${hex(mark)} of the mark is in force for steering DNS of pods`);
  }
  if (markProblem !== '') return fail(check, `the agent would not start: ${markProblem}`);
  return pass(check, `the agent would take bit ${hex(mark)} of the mark to steer DNS of pods`);
}

const owners = {
  firewall: 'firewall rule',
  routing4: 'other routing rule of IPv4',
  routing6: 'other routing rule of IPv6',
} as const;

function checkUsers(
  { markUsers, mark, firewall }: DoctorContext,
  where: MarkUser['where'],
): CheckResult {
  const check = `mark-${where}` as const;
  const users = markUsers.filter((user) => user.where === where);
  const setting = users.filter((user) => conflictOf(user, mark) === 'set');
  const comparing = users.filter((user) => conflictOf(user, mark) === 'match');
  const bit = `bit ${hex(mark)} of the mark`;
  const fix = `restart the agent with --mark=auto for both processes: it takes a free bit; or set --mark to one for both, or give the other program other bits; a rule about the whole mark needs a mask`;
  if (setting.length > 0) {
    return fail(
      check,
      `${bit} is changed by ${listUsers(setting)}: DNS queries of pods are dropped where the bit is cleared; ${steeringOnly}`,
      fix,
    );
  }
  if (comparing.length > 0) {
    const effect =
      where === 'firewall'
        ? 'what they do happens to DNS queries of pods too'
        : 'they may route DNS queries of pods past Tandem';
    return warn(
      check,
      `${bit} is looked at by ${listUsers(comparing)}: ${effect}; ${steeringOnly}`,
      fix,
    );
  }
  if (where === 'firewall' && firewall.unread.length > 0) {
    return warn(check, `not all rules could be read: ${firewall.unread.join('; ')}`);
  }
  return pass(check, `${bit} is used by no ${owners[where]}`);
}
