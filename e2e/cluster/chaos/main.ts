// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** ./run chaos --cluster: brings a cluster up if none is, runs the part, writes the report. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { pageOf } from '../../chaos/html.ts';
import { type PartResult, runPart } from '../../chaos/part.ts';
import { isHeld, mergeInto, textOf } from '../../chaos/report.ts';
import { Layout } from '../layout.ts';
import { withLock } from '../lock.ts';
import { UsageError } from '../options.ts';
import { buildPrograms } from '../programs.ts';
import { Progress } from '../progress.ts';
import { anyUp } from '../up.ts';
import { type CommandLine, help, listText, readCommandLine } from './options.ts';
import { clusterPart } from './part.ts';

async function run(command: CommandLine): Promise<number> {
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

export async function main(args: readonly string[]): Promise<number> {
  let command: CommandLine;
  try {
    command = readCommandLine(args, new Date().toISOString().slice(0, 10));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`chaos: ${error.message}\n`);
    return 2;
  }
  if (command.action !== 'run') {
    process.stdout.write(command.action === 'help' ? help : listText());
    return 0;
  }
  return run(command);
}
