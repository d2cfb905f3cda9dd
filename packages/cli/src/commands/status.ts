// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * `tandem status`: the promises of the node that do not hold, each with its fix. Works
 * with either process, or none: the pinned group holds the state of both.
 */

import { askStatus, processNames } from '../admin/connection.ts';
import type { CliCommand, CommandContext } from '../command.ts';
import { type ExitCode, exitCode } from '../exit-codes.ts';
import { diagnosticsPerCodeMax, heavyPodsShownMax, learnedNamespacesMax } from '../limits.ts';
import { readSettledGroup } from '../node/beats.ts';
import { readIsJudging, readMapFill } from '../node/pins.ts';
import { nodeReport } from '../node/report.ts';
import type { LanesReport, MemberReport, NodeReport } from '../node/report-model.ts';
import type { Printer, Style, Text } from '../output/printer.ts';
import { formatBytes, formatDuration, formatShare } from '../output/quantities.ts';
import { printTable } from '../output/table.ts';
import { wrapped } from '../output/wrap.ts';

const healthStyles: Readonly<Record<NodeReport['health'], Style>> = {
  healthy: 'good',
  degraded: 'warning',
  down: 'bad',
};

const healthCodes: Readonly<Record<NodeReport['health'], ExitCode>> = {
  healthy: exitCode.ok,
  degraded: exitCode.problem,
  down: exitCode.down,
};

export const statusCommand: CliCommand = {
  name: 'status',
  summary: 'show the health of the node: both members, policy, maps, degradations and their fixes',
  details:
    'Exits with 0 when healthy, 1 when degraded, 3 when no process serves DNS. Works without either process.',
  run: async ({ settings, out, wantsJson, signal }: CommandContext): Promise<ExitCode> => {
    const [group, ...answers] = await Promise.all([
      readSettledGroup(settings.bpffsDir),
      ...processNames.map((process) => askStatus(process, settings, signal)),
    ]);
    const [agent] = answers;
    const report = nodeReport({
      group,
      answers,
      // The DNS proxy may not read the agent's maps; the user of this command may.
      maps: agent?.ok === true || !group.ok ? [] : readMapFill(settings.bpffsDir),
      isJudging: readIsJudging(settings.bpffsDir),
    });
    if (wantsJson) out.json(report);
    else printReport(out, report);
    return healthCodes[report.health];
  },
};

function printReport(out: Printer, report: NodeReport): void {
  out.line('Health:  ', { text: report.health.toUpperCase(), style: healthStyles[report.health] });
  if (report.node !== null) out.line('Node:    ', report.node);
  out.line('Answer:  ', answerText(report));
  out.line('Policy:  ', policyText(report.policy));
  if (report.sync !== null) out.line('Sync:    ', syncText(report.sync));
  if (report.dropReader !== null) out.line('Drops:   ', dropReaderText(report.dropReader));
  if (report.lanes !== null) for (const line of laneTexts(report.lanes)) out.line(...line);
  for (const note of report.notes) out.line('Note:    ', note);
  printMembers(out, report);
  if (report.maps.length > 0) {
    out.line();
    printTable(
      out,
      [
        { title: 'MAP' },
        { title: 'ENTRIES', isNumeric: true },
        { title: 'CAPACITY', isNumeric: true },
        { title: 'FILL', isNumeric: true },
      ],
      report.maps.map(({ name, entries, capacity }) => [
        name,
        String(entries),
        String(capacity),
        formatShare(entries, capacity),
      ]),
    );
  }
  printLearned(out, report.learned);
  for (const { code, message, fix } of report.degraded) {
    out.line();
    out.line({ text: `degraded: ${code}`, style: 'warning' });
    out.line(`  ${message}`);
    out.line(`  fix: ${fix}`);
  }
  printDiagnostics(out, report.diagnostics);
}

/** Prints the first few diagnostics of each code whole, and names the objects of the others. */
function printDiagnostics(out: Printer, diagnostics: NodeReport['diagnostics']): void {
  const byCode = Map.groupBy(diagnostics, ({ severity, code }) => `${severity}: ${code}`);
  for (const [title, found] of byCode) {
    const style = found[0]?.severity === 'error' ? 'bad' : 'warning';
    for (const { subject, message, since } of found.slice(0, diagnosticsPerCodeMax)) {
      out.line();
      out.line({ text: title, style }, since === null ? '' : `, since ${since}`);
      out.line(`  ${subject}`);
      out.line(`  ${message}`);
    }
    const others = found.slice(diagnosticsPerCodeMax);
    if (others.length === 0) continue;
    const subjects = [...new Set(others.map(({ subject }) => subject))];
    out.line();
    out.line({ text: title, style }, ` and ${others.length} more, with their messages in -o json`);
    for (const line of wrapped(subjects.join(', '))) out.line(`  ${line}`);
  }
}

/** The fullest namespaces, with the number of others. */
function printLearned(out: Printer, learned: NodeReport['learned']): void {
  const filled = learned.filter(({ used, refused }) => used > 0 || refused > 0);
  if (filled.length === 0) return;
  out.line();
  printTable(
    out,
    [
      { title: 'LEARNED FOR' },
      { title: 'PAIRS', isNumeric: true },
      { title: 'SHARE', isNumeric: true },
      { title: 'LIMIT', isNumeric: true },
      { title: 'REPLACED', isNumeric: true },
      { title: 'YIELDED', isNumeric: true },
      { title: 'REFUSED', isNumeric: true },
    ],
    filled.slice(0, learnedNamespacesMax).map((each): Text[] => {
      const atLimit = each.limit > 0 && each.used >= each.limit;
      return [
        each.namespace ?? '(offers)',
        atLimit ? { text: String(each.used), style: 'warning' } : String(each.used),
        String(each.share),
        each.namespace === null ? '-' : String(each.limit),
        String(each.replaced),
        String(each.yielded),
        String(each.refused),
      ];
    }),
  );
  const others = filled.length - learnedNamespacesMax;
  if (others > 0) out.line(`and ${others} more namespaces: see -o json`);
}

function printMembers(out: Printer, { members, processes }: NodeReport): void {
  if (members.length === 0) return;
  out.line();
  printTable(
    out,
    [
      { title: 'MEMBER' },
      { title: 'SERVING' },
      { title: 'STATE' },
      { title: 'HEARTBEAT', isNumeric: true },
      { title: 'REVISION', isNumeric: true },
      { title: 'PID', isNumeric: true },
      { title: 'ADMIN' },
      { title: 'VERSION' },
      { title: 'UPTIME', isNumeric: true },
    ],
    members.map((member): Text[] => {
      const process = processes.find((candidate) => candidate.process === member.role);
      const uptime = process?.uptimeSeconds ?? null;
      return [
        member.role,
        servingText(member),
        member.state,
        formatDuration(member.heartbeatAgeMs),
        String(member.revision),
        String(member.pid),
        process?.answers === true ? 'answers' : { text: 'silent', style: 'warning' },
        process?.version ?? '-',
        uptime === null ? '-' : formatDuration(uptime * 1000),
      ];
    }),
  );
}

function servingText({ isServing }: MemberReport): Text {
  return isServing ? { text: 'yes', style: 'good' } : { text: 'no', style: 'bad' };
}

function answerText({ answeredBy, processes }: NodeReport): string {
  if (answeredBy === null) return 'none: no map is pinned, and no process answers';
  if (answeredBy === 'pins') return 'from the pinned maps alone, no process answers';
  const socket = processes.find(({ process }) => process === answeredBy)?.socket ?? '';
  return `from the ${answeredBy} (${socket}) and the pinned maps`;
}

function policyText(policy: NodeReport['policy']): string {
  const known = (value: number | null): string => (value === null ? '?' : String(value));
  const revisions = `revision ${known(policy.requiredRevision)} required, ${known(policy.appliedRevision)} applied, ${known(policy.servedRevision)} served`;
  if (policy.servedRevision === null) return revisions;
  const made = policy.createdAt === null ? '' : `, made ${policy.createdAt}`;
  const content = `${known(policy.endpoints)} endpoints, ${known(policy.policies)} policies, ${known(policy.patterns)} patterns`;
  return `${revisions}; from ${policy.origin ?? 'nowhere'}${made}; ${content}`;
}

function dropReaderText(reader: NonNullable<NodeReport['dropReader']>): string {
  const { process, ageMs, seen, missing, kernelLost, kernelLimited } = reader;
  const who =
    process === null
      ? 'read by no process'
      : `read by the ${process}, ${formatDuration(ageMs)} ago`;
  const kernel = `${kernelLost} lost to a full ring, ${kernelLimited} over the rate limit`;
  return `${who}; ${seen} events, ${missing} missing; ${kernel}`;
}

/** One line of the node, one of each process that has lanes, and one of the pods. */
function laneTexts(lanes: LanesReport): Text[][] {
  const { selected, selectedHeavy, queriesRefused, connectionsRefused, buffers } = lanes;
  const refused = `${queriesRefused} datagrams and ${connectionsRefused} SYNs over the rate of a pod dropped`;
  const lines: Text[][] = [
    ['Lanes:   ', `${selected} packets to members, ${selectedHeavy} in the heavy lane; ${refused}`],
  ];
  for (const { process, queuedBytes, queuedHeavyBytes, dropped, droppedHeavy } of buffers) {
    const lane = (name: string, queued: number, lost: number): string =>
      `${name} lane ${formatBytes(queued)} waiting, ${lost} dropped`;
    const light = lane('light', queuedBytes, dropped);
    lines.push([
      '         ',
      `${process}: `,
      dropped > 0 ? { text: light, style: 'warning' } : light,
      `; ${lane('heavy', queuedHeavyBytes, droppedHeavy)}`,
    ]);
  }
  const { heavyPods, heavyPodsTotal } = lanes;
  if (heavyPods === null || heavyPods.length === 0) return lines;
  const shown = heavyPods.slice(0, heavyPodsShownMax);
  const others = (heavyPodsTotal ?? 0) - shown.length;
  const rest = others > 0 ? ` and ${others} more: see -o json` : '';
  return [...lines, ['         ', `pods that ask much now: ${shown.join(', ')}${rest}`]];
}

function syncText(sync: NonNullable<NodeReport['sync']>): string {
  const backlog = `backlog ${formatBytes(sync.backlogBytes)} of ${formatBytes(sync.backlogBytesMax)}`;
  const lost = `lost ${sync.eventsLost} events, ${sync.mappingsLost} mappings`;
  const error = sync.lastError === null ? '' : ` (${sync.lastError})`;
  return `${sync.isConnected ? 'connected' : `not connected${error}`}; ${backlog}; ${lost}`;
}
