// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** ./run chaos --cluster: brings a cluster up if none is, runs the part, writes the report. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { runTool } from '@tandem/runtime/tool';
import { pageOf } from '../../chaos/html.ts';
import { type PartResult, runPart } from '../../chaos/part.ts';
import { isHeld, mergeInto, textOf } from '../../chaos/report.ts';
import { Layout } from '../layout.ts';
import { withLock } from '../lock.ts';
import { buildPrograms } from '../programs.ts';
import { Progress } from '../progress.ts';
import { anyUp } from '../up.ts';
import { type ClusterChaosRun, chosenRun, clusterChaosTool, listText } from './options.ts';
import { clusterPart } from './part.ts';

async function run(command: ClusterChaosRun): Promise<number> {
  const { minutes, seed, faults, isJson } = command;
  const layout = new Layout(command.config.name);
  const progress = new Progress();
  const result = await withLock(layout, async () => {
    const config = await anyUp(layout, command.config, progress);
    await buildPrograms(['helm'], progress);
    return runPart(clusterPart({ layout, config, minutes }), {
      ...{ seed, tier: 'usual', progress: (text) => progress.say(text) },
      ...(faults === undefined ? {} : { faults }),
    });
  });
  const report = mergeInto(undefined, [result]);
  process.stdout.write(isJson ? `${JSON.stringify(report)}\n` : `${textOf(result)}\n\n`);
  write(command.jsonFile, `${JSON.stringify(report)}\n`);
  write(command.htmlFile, pageOf(report));
  write(command.textFile, markdownOf(result));
  const held = isHeld(report);
  progress.say(held ? 'every bound held' : 'SOME BOUNDS ARE BROKEN');
  return held ? 0 : 1;
}

const markdownOf = (result: PartResult): string =>
  `# Chaos on a cluster, ${result.facts.date.slice(0, 10)}\n\nBy \`./run chaos --cluster\`: what is done and what must hold is in docs/chaos.md.\n\n\`\`\`\n${textOf(result)}\n\`\`\`\n`;

function write(file: string | undefined, text: string): void {
  if (file === undefined) return;
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  console.error(`written: ${file}`);
}

export function main(): Promise<number> {
  return runTool(clusterChaosTool, (values) => {
    if (!values.list) return run(chosenRun(values, new Date().toISOString().slice(0, 10)));
    process.stdout.write(listText());
    return 0;
  });
}
