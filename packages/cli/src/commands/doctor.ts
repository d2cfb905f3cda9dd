// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * `tandem doctor`: is this node fit for Tandem, and is the running Tandem as it should be? Every finding
 * says why and how to fix it. Changes nothing.
 */

import { readFirewall } from '@tandem/agent/firewall/read';
import { readNodeNetwork } from '@tandem/agent/node/node-network';
import { isMark } from '@tandem/datapath/config';
import type { CliCommand } from '../command.ts';
import { checkBridges } from '../doctor/bridge.ts';
import {
  type Check,
  type CheckResult,
  type CheckStatus,
  checkStatuses,
  type DoctorContext,
} from '../doctor/check.ts';
import { checkConntrack } from '../doctor/conntrack.ts';
import { checkDirectories } from '../doctor/directories.ts';
import { checkFamilies } from '../doctor/families.ts';
import { checkFirewall } from '../doctor/firewall.ts';
import { checkIpvs } from '../doctor/ipvs.ts';
import { checkKernel } from '../doctor/kernel.ts';
import { checkLanes } from '../doctor/lanes.ts';
import { findMark } from '../doctor/mark-found.ts';
import { checkMarks } from '../doctor/marks.ts';
import { checkMounts } from '../doctor/mounts.ts';
import { checkNetkit } from '../doctor/netkit.ts';
import { checkPins } from '../doctor/pins.ts';
import { checkPort } from '../doctor/port.ts';
import { checkPrivileges } from '../doctor/privileges.ts';
import { checkRouteFilter } from '../doctor/route-filter.ts';
import { checkRules } from '../doctor/rules.ts';
import { usageError } from '../errors.ts';
import { type ExitCode, exitCode } from '../exit-codes.ts';
import { readPinnedEndpoints } from '../node/pins.ts';
import type { Printer, Style } from '../output/printer.ts';
import { flagOf, nodeSettingNames } from '../settings.ts';

/** In the order in which they are shown: what others build on comes first. */
const checks: readonly Check[] = [
  checkKernel,
  checkPrivileges,
  checkMounts,
  checkDirectories,
  checkFamilies,
  checkPins,
  checkPort,
  checkMarks,
  checkRules,
  checkBridges,
  checkIpvs,
  checkNetkit,
  checkConntrack,
  checkLanes,
  checkFirewall,
  checkRouteFilter,
];

const styles: Readonly<Record<CheckStatus, Style>> = {
  pass: 'good',
  info: 'dim',
  skip: 'dim',
  warn: 'warning',
  fail: 'bad',
};

/** Said in docs and here: what no check of the node can find. */
const notCovered =
  'Not covered by policy: hostNetwork pods as sources, secondary interfaces of pods, mesh sidecars that resolve or tunnel themselves, spoofed remote pods in the underlay, datapaths that skip netfilter.';

export const doctorCommand: CliCommand = {
  name: 'doctor',
  summary:
    'check kernel, privileges, pins, port, marks, firewall and bridges, with the fix for each',
  details: [
    'Run it as root in the network namespace of the node. Exits with 1 when a check fails; warnings do not count.',
    'The settings must be those of the processes: --config takes their file.',
    notCovered,
  ].join('\n'),
  configure: (command) => {
    command.option('--preflight', 'skip the checks that need a running Tandem', false);
    for (const name of nodeSettingNames) command.addOption(flagOf(name));
  },
  run: async ({ settings, out, wantsJson }, options): Promise<ExitCode> => {
    if (settings.mark !== 'auto' && !isMark(settings.mark)) {
      throw usageError('--mark must be auto or one bit, such as 0x1000');
    }
    const endpoints = readPinnedEndpoints(settings.bpffsDir);
    const firewall = await readFirewall();
    const network = await readNodeNetwork(settings.routingTable);
    const marks = findMark(settings, firewall, network);
    const context: DoctorContext = {
      settings,
      ...marks,
      isPreflight: options['preflight'] === true,
      endpoints: endpoints.ok ? endpoints.value : null,
      network,
      firewall: { ...firewall, unread: [...firewall.unread, ...marks.unread] },
    };
    const results: CheckResult[] = [];
    for (const check of checks) results.push(...(await check(context)));
    const summary = Object.fromEntries(
      checkStatuses.map((status) => [
        status,
        results.filter((result) => result.status === status).length,
      ]),
    );
    if (wantsJson) out.json({ summary, checks: results, notCovered });
    else print(out, results, summary);
    return summary['fail'] === 0 ? exitCode.ok : exitCode.problem;
  },
};

function print(
  out: Printer,
  results: readonly CheckResult[],
  summary: Readonly<Record<string, number>>,
): void {
  const width = results.reduce((longest, { check }) => Math.max(longest, check.length), 0);
  for (const { check, status, why, fix } of results) {
    out.line({ text: status.padEnd(4), style: styles[status] }, `  ${check.padEnd(width)}  ${why}`);
    if (fix !== null) out.line(`${' '.repeat(width + 8)}fix: ${fix}`);
  }
  out.line();
  out.line(checkStatuses.map((status) => `${summary[status] ?? 0} ${status}`).join(', '));
  out.line(notCovered);
}
