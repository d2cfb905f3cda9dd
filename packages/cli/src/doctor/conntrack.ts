// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** judge asks conntrack whether a connection is known: it must be on in both families, and not full. */

import { ownTable } from '@tandem/agent/firewall/read';
import { ipv6State } from '@tandem/datapath/address-families';
import { conntrackFillHighShare } from '../limits.ts';
import { formatShare } from '../output/quantities.ts';
import {
  type Check,
  type CheckResult,
  type DoctorContext,
  fail,
  pass,
  skip,
  warn,
} from './check.ts';
import { readJson, readSysctl } from './system.ts';

export const checkConntrack: Check = async (context) => {
  const isKept = await hasOwnRule(context);
  return [
    ...(['ip', 'ip6'] as const).map((family) => checkFamily(context, family, isKept)),
    checkFill(),
  ];
};

/** Tandem's own `ct state` rule holds for both families. */
async function hasOwnRule({ isPreflight }: DoctorContext): Promise<boolean> {
  if (isPreflight) return false;
  const { family, name } = ownTable;
  const table = await readJson<unknown>('nft', ['--json', 'list', 'table', family, name]);
  return table.ok && JSON.stringify(table.value).includes('"ct"');
}

function checkFamily(
  { firewall, isPreflight }: DoctorContext,
  family: 'ip' | 'ip6',
  isKept: boolean,
): CheckResult {
  const check = family === 'ip' ? 'conntrack4' : 'conntrack6';
  const name = family === 'ip' ? 'IPv4' : 'IPv6';
  if (family === 'ip6' && ipv6State() === 'absent') return skip(check, 'the kernel has no IPv6');
  if (isKept) return pass(check, `enabled for ${name} by the nft table of Tandem`);
  const isUsed = firewall.chains.some(
    ({ families, rules }) =>
      families.includes(family) && rules.some(({ usesConntrack }) => usesConntrack),
  );
  if (isUsed) return pass(check, `enabled for ${name}: firewall rules use it`);
  if (isPreflight) {
    return readSysctl('net.netfilter.nf_conntrack_max') === null
      ? warn(
          check,
          `conntrack is not loaded; the agent needs it for ${name}`,
          'modprobe nf_conntrack',
        )
      : pass(check, `available for ${name}; the agent enables it`);
  }
  return fail(
    check,
    `no rule enables conntrack for ${name}: replies are filtered as new connections`,
    'restart tandem-agent, whose nft table enables it; modprobe nf_conntrack if it is missing',
  );
}

function checkFill(): CheckResult {
  const check = 'conntrack-fill';
  const count = Number(readSysctl('net.netfilter.nf_conntrack_count'));
  const max = Number(readSysctl('net.netfilter.nf_conntrack_max'));
  if (!(max > 0))
    return warn(check, 'the conntrack table could not be read', 'modprobe nf_conntrack');
  const fill = `${count} of ${max} connections (${formatShare(count, max)})`;
  return count <= max * conntrackFillHighShare
    ? pass(check, fill)
    : warn(
        check,
        `${fill}: new connections of the node will be dropped`,
        `sysctl -w net.netfilter.nf_conntrack_max=${max * 2}`,
      );
}
