// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The report as one page that needs nothing else: bounds, tables, and a plot of each run over time. */

import type { PartResult } from './part.ts';
import {
  boundRow,
  factsLine,
  groupHead,
  groupRow,
  groupsOf,
  isHeld,
  problemsOf,
  type Report,
} from './report.ts';
import type { RunResult } from './run.ts';
import { slowMs } from './timeline.ts';

const plot = { width: 720, height: 150, left: 46, right: 10, top: 22, bottom: 18 } as const;

const style = `
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1f24; --faint: #6b7280; --line: #d6dae0;
  --good: #1a7f37; --bad: #c62828; --data: #2563c9; --mark: #b35c00; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171b; --ink: #e6e9ed; --faint: #98a1ad;
  --line: #363d46; --good: #57c26d; --bad: #ff7b72; --data: #79b0ff; --mark: #f0a854; } }
body { background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
  max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .8rem 0; font-size: 13px; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; font-variant-numeric: tabular-nums; }
th { color: var(--faint); font-weight: 600; }
h2 { margin-top: 2.5rem; } .facts, figcaption { color: var(--faint); font-size: 13px; }
.held { color: var(--good); } .broken { color: var(--bad); font-weight: 700; }
figure { margin: 0 0 1rem; } svg { width: 100%; max-width: ${plot.width}px; height: auto; display: block; }
svg text { fill: var(--faint); font: 10px system-ui, sans-serif; }
.axis { stroke: var(--line); } .slow { stroke: var(--line); stroke-dasharray: 3 3; }
.data { fill: none; stroke: var(--data); stroke-width: 1.2; }
.mark { stroke: var(--mark); } svg .name { fill: var(--mark); } .lost { fill: var(--bad); }
.fault { fill: var(--mark); opacity: .12; }
details { margin: .4rem 0; } summary { cursor: pointer; }
`;

export function pageOf(report: Report): string {
  const verdict = isHeld(report)
    ? '<p class="held">Every bound held.</p>'
    : '<p class="broken">Some bounds are broken.</p>';
  return [
    '<!doctype html><html lang="en"><head><meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width,initial-scale=1">',
    `<title>Tandem: chaos</title><style>${style}</style></head><body>`,
    '<h1>Chaos</h1>',
    verdict,
    '<p class="facts">Plots: the slowest answer of the queries sent in each interval, over the time at which they',
    'were sent; the shaded part lasts from the fault to the answer of the last slow query; red: queries',
    'without answer. What is measured and how: docs/chaos.md.</p>',
    ...report.parts.map(partSection),
    '</body></html>\n',
  ].join('\n');
}

function partSection(part: PartResult): string {
  const bounds = part.bounds.map((bound) => {
    const [verdict = '', ...cells] = boundRow(bound);
    const type = bound.isHeld ? 'held' : 'broken';
    return `<tr><td class="${type}">${verdict}</td>${cells.map(cell).join('')}</tr>`;
  });
  const problems = problemsOf(part).map((problem) => `<li>${escape(problem)}</li>`);
  return [
    `<h2>${escape(part.part)}</h2><p>${escape(part.what)}</p>`,
    `<p class="facts">${escape(factsLine(part))}</p>`,
    `<table><tr><th></th><th>bound</th><th>seen</th><th>limit</th></tr>${bounds.join('')}</table>`,
    problems.length > 0 ? `<ul>${problems.join('')}</ul>` : '',
    part.runs.length > 0 ? runTables(part) : '',
  ].join('\n');
}

function runTables({ runs }: PartResult): string {
  const groups = groupsOf(runs);
  const rows = groups.map((group) => `<tr>${groupRow(group).map(cell).join('')}</tr>`);
  const head = groupHead.map((title) => `<th>${escape(title)}</th>`).join('');
  const plots = groups.map(({ fault, victim, runs: own }) => {
    const [worst, ...others] = own.toSorted((a, b) => b.worstMs - a.worstMs);
    const more =
      others.length === 0
        ? ''
        : `<details><summary>${others.length} more of ${escape(`${fault}, ${victim}`)}</summary>` +
          `${others.map(figure).join('\n')}</details>`;
    return `${worst === undefined ? '' : figure(worst)}${more}`;
  });
  return `<table><tr>${head}</tr>${rows.join('')}</table>\n${plots.join('\n')}`;
}

function figure(run: RunResult): string {
  const { fault, victim, round, sent, lost, excused, medianMs, worstMs } = run;
  const caption =
    `${fault}, ${victim}, run ${round}: ${sent} sent, ${lost} lost, ${excused} excused, ` +
    `median ${medianMs.toFixed(1)} ms, worst ${worstMs.toFixed(1)} ms`;
  return `<figure><figcaption>${escape(caption)}</figcaption>${plotOf(run)}</figure>`;
}

function plotOf(run: RunResult): string {
  const { timeline, faultAtMs, recoveryMs } = run;
  const { bucketMs, slowestMs, lost, marks } = timeline;
  const endMs = Math.max(1, slowestMs.length * bucketMs, ...marks.map(({ atMs }) => atMs));
  const topMs = Math.max(100, ...slowestMs.map((ms) => ms ?? 0)) * 1.05;
  const floor = plot.height - plot.bottom;
  const x = (ms: number): string =>
    (plot.left + ((plot.width - plot.left - plot.right) * ms) / endMs).toFixed(1);
  const y = (ms: number): string => (floor - ((floor - plot.top) * ms) / topMs).toFixed(1);
  const points = slowestMs.flatMap((ms, i) =>
    ms === null ? [] : [`${x((i + 0.5) * bucketMs)},${y(ms)}`],
  );
  const shade = `<rect class="fault" x="${x(faultAtMs)}" y="${plot.top}" width="${(Number(x(Math.min(endMs, faultAtMs + recoveryMs))) - Number(x(faultAtMs))).toFixed(1)}" height="${floor - plot.top}"/>`;
  const gone = Object.entries(lost).map(([bucket, count]) => {
    const at = x((Number(bucket) + 0.5) * bucketMs);
    return `<circle class="lost" cx="${at}" cy="${plot.top + 4}" r="3"><title>${count} lost</title></circle>`;
  });
  return [
    `<svg viewBox="0 0 ${plot.width} ${plot.height}" role="img" aria-label="latency over time">`,
    recoveryMs > 0 ? shade : '',
    `<path class="axis" fill="none" d="M${plot.left},${plot.top}V${floor}H${plot.width - plot.right}"/>`,
    `<path class="slow" d="M${plot.left},${y(slowMs)}H${plot.width - plot.right}"/>`,
    `<text x="2" y="${plot.top + 8}">${topMs.toFixed(0)} ms</text>`,
    `<text x="2" y="${y(slowMs)}">${slowMs} ms</text>`,
    `<text x="${plot.left}" y="${plot.height - 4}">0 s</text>`,
    `<text x="${plot.width - plot.right}" y="${plot.height - 4}" text-anchor="end">${(endMs / 1000).toFixed(1)} s</text>`,
    `<polyline class="data" points="${points.join(' ')}"/>`,
    ...marks.map(({ atMs, what }, i) => mark(x(atMs), what, floor, i)),
    ...gone,
    '</svg>',
  ].join('');
}

/** Names take turns in two lines, or neighbours would lie on each other. */
function mark(at: string, what: string, floor: number, index: number): string {
  const line = `<path class="mark" d="M${at},${plot.top}V${floor}"><title>${escape(what)}</title></path>`;
  return `${line}<text class="name" x="${at}" y="${index % 2 === 0 ? 10 : 20}">${escape(what)}</text>`;
}

const cell = (text: string): string => `<td>${escape(text)}</td>`;

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
