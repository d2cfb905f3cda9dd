// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The degradations of the report: those of the node, built from the pins as `tandem` reads them, by the code of the processes;
 * those that each process reports of itself; and the parts that `tandem` could not read.
 */

import type { DegradationCode } from '@tandem/core/codes/degradations';
import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import { nodeCodes, nodeDegradations } from '@tandem/dns-proxy/admin/node-degradations';
import type { AdminAnswer, ProcessName } from '../admin/connection.ts';
import type { MapFill } from './pins.ts';
import type { MemberReport, ReportedDegradation, ReportInputs } from './report-model.ts';

const programs: Readonly<Record<ProcessName, string>> = {
  agent: 'tandem-agent',
  'dns-proxy': 'tandem-dns-proxy',
};

/** A process that holds the maps reports this, where the pins themselves are gone. */
const pinsRemoved: DegradationCode = 'pins-removed';
/** Reported by the agent, where its links may not be read here. */
const judgeNotAttached: DegradationCode = 'judge-not-attached';

/** `members` and `maps` are those of the report. */
export function reportedDegradations(
  { group, answers, isJudging }: ReportInputs,
  members: readonly MemberReport[],
  maps: readonly MapFill[],
): readonly ReportedDegradation[] {
  const reported = answers.flatMap((answer) => (answer.ok ? answer.status.degraded : []));
  const unreachable = answers.flatMap((answer) => adminUnreachable(answer, members));
  if (!group.ok) {
    const isKnown = reported.some(({ code }) => code === pinsRemoved);
    return [...(isKnown ? [] : [groupUnreadable(group.error)]), ...reported, ...unreachable];
  }
  const isOwn = ({ code }: ReportedDegradation): boolean =>
    nodeCodes.has(code) && (code !== judgeNotAttached || isJudging.ok);
  return [
    ...nodeDegradations({
      ...group.value,
      maps,
      isJudging: isJudging.ok ? isJudging.value : null,
    }),
    ...reported.filter((each) => !isOwn(each)),
    ...unreachable,
  ];
}

function groupUnreadable(reason: string): Degradation {
  return degradation('group-unreadable', {
    message: `the socket group cannot be read: ${reason}`,
  });
}

/** It serves DNS, and its admin socket does not answer. */
function adminUnreachable(
  answer: AdminAnswer,
  members: readonly MemberReport[],
): readonly Degradation[] {
  const { process, path } = answer;
  const isServing = members.some((member) => member.role === process && member.isServing);
  if (answer.ok || !isServing) return [];
  return [
    degradation('admin-unreachable', {
      message: `the ${process} serves DNS, and its admin socket does not answer: ${answer.reason}`,
      fix: `run \`tandem\` as root with the runDir of ${programs[process]} (its socket would be ${path}); restart the process if it hangs; \`tandem doctor\` checks the directory`,
    }),
  ];
}
