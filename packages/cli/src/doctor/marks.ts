// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The bit of the packet mark that is Tandem's: looked at and changed by nobody else. */

import { ipv6State } from '@tandem/datapath/address-families';
import type { Chain, Rule } from '../firewall/rule.ts';
import { allBits } from '../firewall/rule.ts';
import {
  type Check,
  type CheckResult,
  type DoctorContext,
  fail,
  pass,
  skip,
  warn,
} from './check.ts';
import { hex, readJson } from './system.ts';

interface RoutingRule {
  readonly priority: number;
  readonly fwmark?: string;
  readonly fwmask?: string;
  readonly table?: string;
}

const otherMask =
  'give the other program other bits, or both Tandem processes another --mark (one bit)';

export const checkMarks: Check = async (context) => [
  checkFirewallMarks(context),
  ...(await checkRoutingMarks(context)),
];

function checkFirewallMarks({ firewall, mark }: DoctorContext): CheckResult {
  const check = 'mark-firewall';
  const setting: string[] = [];
  const comparing: string[] = [];
  for (const chain of firewall.chains) {
    for (const rule of chain.rules) {
      const kind = conflictOf(rule, mark);
      if (kind === 'set') setting.push(describe(chain, rule));
      if (kind === 'match') comparing.push(describe(chain, rule));
    }
  }
  const bits = `bit ${hex(mark)} of the mark`;
  if (setting.length > 0) {
    return fail(
      check,
      `${bits} is changed by ${list(setting)}: steered DNS is dropped behind it, and what it sets the bit on is taken for steered`,
      `${otherMask}; a rule that sets the whole mark needs a mask`,
    );
  }
  if (comparing.length > 0) {
    return warn(
      check,
      `${bits} is looked at by ${list(comparing)}: DNS packets that Tandem steers may match it, others no more`,
      `${otherMask}; a rule that compares the whole mark needs a mask`,
    );
  }
  if (firewall.unread.length > 0) {
    return warn(check, `not all rules could be read: ${firewall.unread.join('; ')}`);
  }
  return pass(check, `${bits} is used by no firewall rule`);
}

function conflictOf(rule: Rule, mask: number): 'set' | 'match' | null {
  const uses = rule.markUses.filter(({ bits }) => (bits & mask) !== 0);
  if (uses.some(({ kind }) => kind === 'set')) return 'set';
  // What `doctor` itself advises: an accept for our own bits.
  const isAdvised = rule.verdict.kind === 'accept' && uses.every(({ bits }) => bits === mask);
  return uses.length === 0 || isAdvised ? null : 'match';
}

async function checkRoutingMarks({ settings, mark }: DoctorContext): Promise<CheckResult[]> {
  const results: CheckResult[] = [];
  for (const family of ['-4', '-6'] as const) {
    const check = `mark-routing${family === '-4' ? '4' : '6'}`;
    if (family === '-6' && ipv6State() === 'absent') {
      results.push(skip(check, 'the kernel has no IPv6'));
      continue;
    }
    const rules = await readJson<readonly RoutingRule[]>('ip', ['-j', family, 'rule', 'show']);
    if (!rules.ok) {
      results.push(warn(check, rules.error));
      continue;
    }
    const foreign = rules.value.filter(
      ({ fwmark, fwmask, table }) =>
        fwmark !== undefined &&
        table !== String(settings.routingTable) &&
        ((fwmask === undefined ? allBits : Number(fwmask)) & mark) !== 0,
    );
    if (foreign.length === 0) {
      results.push(pass(check, 'no other routing rule looks at our bit'));
      continue;
    }
    const texts = foreign.map(
      ({ priority, fwmark, fwmask, table }) =>
        `pref ${priority} fwmark ${fwmark}${fwmask === undefined ? '' : `/${fwmask}`} lookup ${table}`,
    );
    const why = `routing rules look at bit ${hex(mark)}: ${texts.join('; ')}; they catch steered packets of pods, or miss others`;
    results.push(
      warn(check, why, `${otherMask}; a rule without mask compares all bits: fwmark V/M`),
    );
  }
  return results;
}

const rulesShownMax = 3;

function list(texts: readonly string[]): string {
  const shown = texts.slice(0, rulesShownMax).join('; ');
  const more = texts.length - rulesShownMax;
  return more > 0 ? `${shown}; and ${more} more` : shown;
}

function describe(chain: Chain, rule: Rule): string {
  return rule.text.startsWith(chain.table)
    ? rule.text
    : `${chain.table} ${chain.name}: ${rule.text}`;
}
