// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `kubectl tandem status`: one line a node, and each node's problems with their fixes. */

import { type ExitCode, exitCode } from '../exit-codes.ts';
import type { Printer, Style, Text } from '../output/printer.ts';
import { printTable } from '../output/table.ts';
import { askStatus, findNodes } from './ask-nodes.ts';
import {
  type ClusterNode,
  type ClusterReport,
  clusterReport,
  type NodeHealth,
  problemsOf,
  processText,
} from './cluster-report.ts';
import type { PluginContext } from './context.ts';
import { Progress } from './progress.ts';

const styles: Readonly<Record<NodeHealth, Style>> = {
  healthy: 'good',
  degraded: 'warning',
  down: 'bad',
  unreachable: 'bad',
  absent: 'bad',
};

const codes: Readonly<Record<ClusterReport['health'], ExitCode>> = {
  healthy: exitCode.ok,
  degraded: exitCode.problem,
  down: exitCode.down,
};

export async function runStatus(context: PluginContext): Promise<ExitCode> {
  const { kubectl, out, notes, wantsJson, nodes: names } = context;
  const nodes = await findNodes(kubectl, names);
  const progress = new Progress(notes, 'nodes asked', nodes.length);
  const report = clusterReport(await askStatus(kubectl, nodes, () => progress.step()));
  if (wantsJson) out.json(report);
  else print(out, report);
  return codes[report.health];
}

function print(out: Printer, { health, counts, versions, nodes }: ClusterReport): void {
  const found = Object.entries(counts).filter(([, count]) => count > 0);
  const summary = found.map(([name, count]) => `${count} ${name}`).join(', ');
  out.line('Health:   ', { text: health.toUpperCase(), style: styles[health] });
  out.line('Nodes:    ', summary);
  const running = Object.entries(versions).map(([version, count]) => `${version} (${count})`);
  out.line('Versions: ', running.join(', ') || 'not known');
  out.line();
  printTable(
    out,
    [
      { title: 'NODE' },
      { title: 'HEALTH' },
      { title: 'AGENT' },
      { title: 'DNS-PROXY' },
      { title: 'REVISION', isNumeric: true },
      { title: 'ENDPOINTS', isNumeric: true },
      { title: 'PROBLEMS' },
    ],
    nodes.map(rowOf),
  );
  for (const node of nodes) printProblems(out, node);
}

function rowOf(node: ClusterNode): Text[] {
  const policy = node.report?.policy;
  return [
    node.node,
    { text: node.health, style: styles[node.health] },
    processText(node, 'agent'),
    processText(node, 'dns-proxy'),
    String(policy?.requiredRevision ?? '-'),
    String(policy?.endpoints ?? '-'),
    problemsOf(node).join('; '),
  ];
}

function printProblems(out: Printer, { node, report }: ClusterNode): void {
  for (const { code, message, fix } of report?.degraded ?? []) {
    out.line();
    out.line({ text: `${node}: degraded: ${code}`, style: 'warning' });
    out.line(`  ${message}`);
    out.line(`  fix: ${fix}`);
  }
  const count = report?.diagnostics.length ?? 0;
  if (count === 0) return;
  out.line();
  out.line({ text: `${node}: ${count} problems of objects`, style: 'warning' });
  out.line(`  see kubectl tandem node ${node} status`);
}
