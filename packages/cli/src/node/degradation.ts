// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Promises of the product that do not hold at present, from the pinned maps, the sockets and what the
 * processes say. Who lives is judged here where the group can be read: a process tells from one look at
 * it, and its own silence not at all.
 */

import type { MemberStatus } from '@tandem/datapath/group';
import { type Degradation, degradationsOf } from '@tandem/dns-proxy/admin/degradations';
import type { AdminAnswer, ProcessName } from '../admin/connection.ts';
import type { GroupView, MapFill } from './pins.ts';
import type { MemberReport, ReportInputs } from './report-model.ts';

/** Codes of the processes about who lives. */
const memberCodes: ReadonlySet<string> = new Set([
  'agent-away',
  'proxy-away',
  'member-stale',
  'no-member-serves',
  'no-datapath',
]);

const programs: Readonly<Record<ProcessName, string>> = {
  agent: 'tandem-agent',
  'dns-proxy': 'tandem-dns-proxy',
};

/** `members` and `maps` are those of the report. */
export function nodeDegradations(
  { group, answers, isJudging }: ReportInputs,
  members: readonly MemberReport[],
  maps: readonly MapFill[],
): readonly Degradation[] {
  const told = answers.flatMap((answer) => (answer.ok ? answer.status.degraded : []));
  const silent = answers.flatMap((answer) => silence(answer, members));
  if (!group.ok) {
    // Who holds what was pinned knows better.
    const isTold = told.some(({ code }) => code === 'pins-removed');
    return [...(isTold ? [] : [groupUnreadable(group.error)]), ...told, ...silent];
  }
  const isServed = members.some(({ isServing }) => isServing);
  return [
    ...(isServed ? away(group.value.members, maps) : [nobodyServes(members)]),
    ...told.filter(({ code }) => !memberCodes.has(code)),
    ...silent,
    ...(isJudging.ok && !isJudging.value ? [notJudging] : []),
    ...notApplied(group.value),
  ];
}

/** What the group says, in the words of the processes. */
function away(members: readonly MemberStatus[], maps: readonly MapFill[]): readonly Degradation[] {
  return degradationsOf({
    role: 'agent',
    members,
    requiredRevision: 0,
    policy: { revision: 1, origin: 'agent' },
    isExchangeConnected: true,
    maps,
    errors: 0,
    warnings: 0,
  });
}

function groupUnreadable(reason: string): Degradation {
  return {
    code: 'group-unreadable',
    message: `the socket group cannot be read: ${reason}`,
    fix: 'run it as root on the node, with the bpffsDir of its agent; `tandem doctor` checks the rest',
  };
}

function nobodyServes(members: readonly MemberReport[]): Degradation {
  const seen = members.map(({ role, state, pid }) => `${role} ${state}, pid ${pid}`).join('; ');
  return {
    code: 'no-member-serves',
    message: `no process answers DNS on the shared socket (${seen === '' ? 'none has joined since boot' : seen}): policy in the kernel goes on, names are not resolved`,
    fix: 'start tandem-agent and tandem-dns-proxy; either alone answers. Their logs say why they ended',
  };
}

/** It serves DNS, and yet nobody can ask it anything. */
function silence(answer: AdminAnswer, members: readonly MemberReport[]): readonly Degradation[] {
  const { process, path } = answer;
  const isServing = members.some((member) => member.role === process && member.isServing);
  if (answer.ok || !isServing) return [];
  return [
    {
      code: 'admin-unreachable',
      message: `the ${process} serves DNS, but its admin socket does not answer: ${answer.reason}`,
      fix: `run it as root with the runDir of ${programs[process]} (its socket would be ${path}); restart it if it hangs; \`tandem doctor\` says whether sockets can be made there`,
    },
  ];
}

const notJudging: Degradation = {
  code: 'not-judging',
  message: 'judge is not at all its netfilter hooks: connections pass unjudged where it is missing',
  fix: 'restart tandem-agent, which attaches it; `tandem doctor` names the link that is missing',
};

function notApplied({ requiredRevision, appliedRevision }: GroupView): readonly Degradation[] {
  if (appliedRevision >= requiredRevision && appliedRevision > 0) return [];
  return [
    {
      code: 'policy-not-applied',
      message: `the datapath enforces revision ${appliedRevision}, wanted is ${requiredRevision}`,
      fix: 'if it lasts for more than seconds: is the agent up, and what does its log say of applying?',
    },
  ];
}
