// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The state of a node from all its sources: the pinned group, which is right even while both processes are
 * dead, and the answers of both processes. Pure: the same inputs give the same report.
 */

import type { Result } from '@tandem/core/result';
import { agentMember } from '@tandem/datapath/member';
import type { StatusResponse } from '@tandem/proto/gen/messages';
import type { AdminAnswer } from '../admin/connection.ts';
import { roleName, severityName, stateName } from '../admin/names.ts';
import { reportedDegradations } from './degradation.ts';
import type { GroupView, MapFill } from './pins.ts';
import type {
  LanesReport,
  MemberReport,
  NodeReport,
  ProcessReport,
  ReportInputs,
} from './report-model.ts';

export function nodeReport(inputs: ReportInputs): NodeReport {
  const statuses = inputs.answers.flatMap((answer) => (answer.ok ? [answer.status] : []));
  const [first] = statuses;
  const firstAnswer = inputs.answers.find(({ ok }) => ok);
  const members = memberReports(inputs.group, first);
  const maps = inputs.maps.length > 0 ? inputs.maps : (first?.maps ?? []).map(mapFill);
  const degraded = withoutRepeats(reportedDegradations(inputs, members, maps));
  const isServed = members.some(({ isServing }) => isServing);
  return {
    health: !isServed ? 'down' : degraded.length > 0 ? 'degraded' : 'healthy',
    node: first?.nodeName || null,
    answeredBy: firstAnswer?.process ?? (inputs.group.ok ? 'pins' : null),
    processes: inputs.answers.map(processReport),
    members,
    policy: policyReport(inputs.group, first),
    sync: syncReport(first),
    dropReader: dropReaderReport(first),
    maps,
    // Field by field: counts of 0 lie on the prototype of a decoded message, which `...` leaves behind.
    learned: (first?.learned ?? []).map((each) => ({
      namespace: each.namespace || null,
      used: each.used,
      share: each.share,
      limit: each.limit,
      replaced: each.replaced,
      yielded: each.yielded,
      refused: each.refused,
    })),
    lanes: lanesReport(inputs.answers),
    degraded,
    notes: [...new Set(statuses.flatMap((status) => status.notes))],
    diagnostics: withoutRepeats(
      statuses
        .flatMap((status) => status.diagnostics)
        .map(({ severity, code, subject, message, sinceMs }) => ({
          severity: severityName(severity),
          code,
          subject,
          message,
          since: sinceMs === 0 ? null : new Date(sinceMs).toISOString(),
        })),
    ),
  };
}

function memberReports(
  group: Result<GroupView, string>,
  status: StatusResponse | undefined,
): readonly MemberReport[] {
  if (group.ok) {
    return group.value.members.map((member) => ({
      index: member.index,
      role: member.role,
      state: member.state,
      isServing: member.isServing,
      heartbeatAgeMs: Math.max(0, member.beatAgeMs),
      revision: member.revision,
      pid: member.pid,
    }));
  }
  return (status?.members ?? []).map((member) => {
    const state = stateName(member.state);
    return {
      index: member.index,
      role: roleName(member.role),
      state,
      isServing: state === 'live' && member.isFresh,
      heartbeatAgeMs: member.beatAgeUs / 1000,
      revision: member.revision,
      pid: member.pid,
    };
  });
}

function processReport(answer: AdminAnswer): ProcessReport {
  const { process, path } = answer;
  const status = answer.ok ? answer.status : null;
  return {
    process,
    socket: path,
    answers: answer.ok,
    error: answer.ok ? null : answer.reason,
    version: status?.version?.version ?? null,
    uptimeSeconds: status?.uptimeS ?? null,
  };
}

function policyReport(
  group: Result<GroupView, string>,
  status: StatusResponse | undefined,
): NodeReport['policy'] {
  const policy = status?.policy ?? null;
  const createdMs = policy?.createdUnixMs ?? 0;
  return {
    requiredRevision: group.ok ? group.value.requiredRevision : (policy?.requiredRevision ?? null),
    appliedRevision: group.ok ? group.value.appliedRevision : null,
    servedRevision: policy?.revision ?? null,
    origin: policy?.origin || null,
    createdAt: createdMs === 0 ? null : new Date(createdMs).toISOString(),
    endpoints: policy?.endpoints ?? null,
    patterns: policy?.patterns ?? null,
    policies: policy?.policies ?? null,
  };
}

function syncReport(status: StatusResponse | undefined): NodeReport['sync'] {
  const sync = status?.sync ?? null;
  if (sync === null) return null;
  const { isConnected, backlogBytes, backlogBytesMax, eventsLost, mappingsLost, lastError } = sync;
  return {
    isConnected,
    backlogBytes,
    backlogBytesMax,
    eventsLost,
    mappingsLost,
    lastError: lastError || null,
  };
}

/** Null also when both processes are of a version that does not report them. */
function lanesReport(answers: readonly AdminAnswer[]): LanesReport | null {
  const told = answers.flatMap((answer) => {
    const lanes = answer.ok ? answer.status.lanes : null;
    return lanes === null ? [] : [{ process: answer.process, lanes }];
  });
  const node = told[0]?.lanes;
  if (node === undefined) return null;
  const knowing = told.find(({ lanes }) => lanes.knowsPods)?.lanes;
  return {
    selected: node.selected,
    selectedHeavy: node.selectedHeavy,
    queriesRefused: node.queriesRefused,
    connectionsRefused: node.connectionsRefused,
    buffers: told.map(({ process, lanes }) => ({
      process,
      queuedBytes: lanes.queuedBytes,
      queuedHeavyBytes: lanes.queuedHeavyBytes,
      dropped: lanes.dropped,
      droppedHeavy: lanes.droppedHeavy,
    })),
    heavyPods: knowing?.heavyPods ?? null,
    heavyPodsTotal: knowing?.heavyPodsTotal ?? null,
  };
}

function dropReaderReport(status: StatusResponse | undefined): NodeReport['dropReader'] {
  const reader = status?.dropReader ?? null;
  if (reader === null) return null;
  const { isHeld, member, ageMs, seen, missing, kernelLost, kernelLimited } = reader;
  const process = !isHeld ? null : member === agentMember ? 'agent' : 'dns-proxy';
  return { process, ageMs, seen, missing, kernelLost, kernelLimited };
}

const mapFill = ({ name, entries, capacity }: MapFill): MapFill => ({ name, entries, capacity });

/** The first of several equal ones: both processes report most degradations. */
function withoutRepeats<
  T extends { readonly code: string; readonly subject?: string; readonly message: string },
>(items: readonly T[]): readonly T[] {
  const seen = new Set<string>();
  return items.filter((item) => {
    const key = `${item.code}\n${item.subject ?? ''}\n${item.message}`;
    const isNew = !seen.has(key);
    seen.add(key);
    return isNew;
  });
}
