// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Programs, maps and links of a running Tandem: pinned, attached, and first in their chains. */

import { existsSync, readdirSync } from 'node:fs';
import { BpfError } from '@tandem/bpf-loader-node/errors';
import { BpfLink, queryTcx } from '@tandem/bpf-loader-node/link';
import { BpfMap } from '@tandem/bpf-loader-node/map';
import { TD_ABI_VERSION } from '@tandem/datapath/abi.gen';
import { ipv6State } from '@tandem/datapath/address-families';
import { otherRoots } from '@tandem/datapath/hook-taken';
import { isPolicyAttached } from '@tandem/datapath/other-datapath';
import {
  agentMaps,
  type judgeHooks,
  netfilterSlots,
  type PinPaths,
  pinPaths,
  programNames,
  sharedMaps,
} from '@tandem/datapath/paths';
import { readSettledGroup } from '../node/beats.ts';
import {
  type Check,
  type CheckResult,
  type DoctorContext,
  fail,
  info,
  pass,
  skip,
  warn,
} from './check.ts';
import type { CheckCode } from './check-codes.ts';

const restart = 'restart tandem-agent, which loads and attaches what is missing';
const judgeLinks = {
  guard_entry_ipv4: 'link-guard-entry-ipv4',
  guard_entry_ipv6: 'link-guard-entry-ipv6',
  judge_postRouting_ipv4: 'link-judge-post-routing-ipv4',
  judge_postRouting_ipv6: 'link-judge-post-routing-ipv6',
  judge_localIn_ipv4: 'link-judge-local-in-ipv4',
  judge_localIn_ipv6: 'link-judge-local-in-ipv6',
} as const satisfies Readonly<
  Record<`${(typeof judgeHooks)[number]['name']}_${'ipv4' | 'ipv6'}`, CheckCode>
>;
const guardLinks = { guard_port4: 'link-guard-port4', guard_port6: 'link-guard-port6' } as const;

export const checkPins: Check = async (context) => {
  const { settings, isPreflight } = context;
  if (isPreflight) return [skip('pins', 'before Tandem runs')];
  const paths = pinPaths(settings.bpffsDir);
  if (!existsSync(paths.map('group'))) {
    const others = isPolicyAttached() ? otherRoots(settings.bpffsDir) : [];
    if (others.length > 0) {
      return [
        fail(
          'pins',
          `nothing of Tandem is pinned in ${settings.bpffsDir}, and policy programs of another directory are attached: ${others.join(' or ')}`,
          `give doctor and both processes the bpffsDir in force: --bpffs-dir=${others[0]}`,
        ),
      ];
    }
    return [
      fail(
        'pins',
        `nothing of Tandem is pinned in ${settings.bpffsDir}: no policy is in force on this node, or it ends with the agent that runs (pins-removed in \`tandem status\`)`,
        'start tandem-agent, or restart it and then the DNS proxy; before it is installed, ask `tandem doctor --preflight`',
      ),
    ];
  }
  return [
    checkAllPinned(paths),
    ...checkVersions(paths),
    ...netfilterSlots.map(({ slot, program }) => checkSlot(paths, slot, program)),
    ...Object.entries(judgeLinks).map(([name, check]) => checkLink(paths, name, check, fail)),
    ...Object.entries(guardLinks).map(([name, check]) => checkLink(paths, name, check, warn)),
    ...checkEndpoints(context, paths),
    ...(await checkMembers(settings.bpffsDir)),
  ];
};

function checkAllPinned(paths: PinPaths): CheckResult {
  const missing = [
    ...[...sharedMaps, ...agentMaps].filter((name) => !existsSync(paths.map(name))),
    ...programNames.filter((name) => !existsSync(paths.program(name))),
  ];
  return missing.length === 0
    ? pass('pins', `all maps and programs are pinned in ${paths.root}`)
    : fail('pins', `missing in ${paths.root}: ${missing.join(', ')}`, restart);
}

function checkVersions(paths: PinPaths): readonly CheckResult[] {
  const others = readdirSync(paths.root).filter(
    (name) => /^v\d+$/.test(name) && name !== `v${TD_ABI_VERSION}`,
  );
  if (others.length === 0) return [];
  const why = `pins of other versions are there (${others.join(', ')}): an upgrade or rollback is under way, or was left`;
  return [info('pin-versions', why)];
}

/** An empty slot drops everything of the node's pods. */
function checkSlot(
  paths: PinPaths,
  slot: (typeof netfilterSlots)[number]['slot'],
  name: string,
): CheckResult {
  const check = slot === 'judge_slot' ? 'judge-slot' : 'guard-entry-slot';
  try {
    using map = BpfMap.openPinned(paths.map(slot), { isReadOnly: true });
    const program = map.lookup(new Uint8Array(4));
    if (program !== null) return pass(check, `${name} is in its slot`);
    return fail(check, `the slot of ${name} is empty: traffic of pods is dropped`, restart);
  } catch (error) {
    return unreadable(check, error);
  }
}

/** `severity`: what its absence is. */
function checkLink(
  paths: PinPaths,
  name: string,
  check: CheckCode,
  severity: typeof fail | typeof warn,
): CheckResult {
  try {
    using link = BpfLink.openPinned(paths.link(name));
    const found = link.info();
    const isAttached = found.kind === 'cgroup' ? found.cgroupId !== 0n : found.kind !== 'other';
    return isAttached
      ? pass(check, `attached (${found.kind} link ${found.id})`)
      : severity(check, 'the link is pinned and attached to nothing', restart);
  } catch (error) {
    if (error instanceof BpfError && error.code === 'TANDEM_BPF_NOT_FOUND') {
      if (name.endsWith('_ipv6') && ipv6State() === 'absent') {
        return skip(check, 'the kernel has no IPv6');
      }
      return severity(check, `there is no link ${paths.link(name)}`, restart);
    }
    return unreadable(check, error);
  }
}

/** Both programs are on the interface of every endpoint, and no other program runs before the one that verifies sources. */
function checkEndpoints({ endpoints }: DoctorContext, paths: PinPaths): readonly CheckResult[] {
  if (endpoints === null) return [warn('endpoint-links', 'the endpoints could not be read')];
  const interfaces = new Set(endpoints.map(({ vethIfindex }) => vethIfindex));
  const missing: string[] = [];
  const preceded: string[] = [];
  for (const ifindex of interfaces) {
    for (const [name, direction] of [
      ['from_pod', 'ingress'],
      ['to_pod', 'egress'],
    ] as const) {
      const place = placeInChain(paths, name, ifindex, direction);
      if (place === null) missing.push(`${name} on interface ${ifindex}`);
      else if (name === 'from_pod' && place > 0) preceded.push(`interface ${ifindex}`);
    }
  }
  const results: CheckResult[] = [];
  if (missing.length > 0) {
    const why = `not attached: ${missing.join(', ')}; traffic of these pods is dropped or not filtered`;
    results.push(fail('endpoint-links', why, restart));
  } else {
    results.push(pass('endpoint-links', `on all ${interfaces.size} interfaces of endpoints`));
  }
  if (preceded.length > 0) {
    results.push(
      warn(
        'endpoint-chain',
        `another tcx program runs before from_pod on ${preceded.join(', ')}: the source of packets that it redirects is not verified`,
        'attach the other program after from_pod; `bpftool net show` lists both',
      ),
    );
  }
  return results;
}

/** Position of our program in the chain of the interface; null: it is not there. */
function placeInChain(
  paths: PinPaths,
  name: string,
  ifindex: number,
  direction: 'ingress' | 'egress',
): number | null {
  try {
    using link = BpfLink.openPinned(paths.link(`${name}_${ifindex}`));
    const { id } = link.info();
    const place = queryTcx(ifindex, direction).programs.findIndex(({ linkId }) => linkId === id);
    return place < 0 ? null : place;
  } catch (error) {
    if (error instanceof BpfError) return null;
    throw error;
  }
}

async function checkMembers(bpffsDir: string): Promise<readonly CheckResult[]> {
  const group = await readSettledGroup(bpffsDir);
  if (!group.ok) return [warn('members', group.error)];
  const serving = group.value.members.filter(({ isServing }) => isServing);
  const names = serving.map(({ role }) => role).join(' and ');
  if (serving.length > 1) return [pass('members', `${names} serve DNS`)];
  const fix = '`tandem status` says which does not and what to do';
  return [
    serving.length === 1
      ? warn('members', `only the ${names} serves DNS`, fix)
      : fail('members', 'no process serves DNS', fix),
  ];
}

function unreadable(check: CheckCode, error: unknown): CheckResult {
  if (!(error instanceof BpfError)) throw error;
  return warn(check, `could not be read: ${error.message}`, 'sudo tandem doctor');
}
