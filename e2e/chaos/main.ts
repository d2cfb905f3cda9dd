// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** ./run chaos: runs the parts, prints what they say, writes the report. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { runTool } from '@tandem/runtime/tool';
import { pageOf } from './html.ts';
import { listText } from './list.ts';
import { type ChaosRun, chaosTool, chosenRun } from './options.ts';
import { type ChaosOptions, type PartResult, runPart } from './part.ts';
import { isHeld, mergeInto, textOf } from './report.ts';

/** One line that is overwritten, on a terminal; elsewhere lines. */
function progress(text: string): void {
  process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${text}` : `${text}\n`);
}

async function run(command: ChaosRun): Promise<number> {
  const { tier, seed, faults, rounds, seconds, jsonFile, htmlFile } = command;
  const results: PartResult[] = [];
  for (const part of command.parts) {
    const options: ChaosOptions = {
      seed,
      tier,
      ...(faults === undefined ? {} : { faults }),
      ...(rounds === undefined ? {} : { rounds }),
      ...(seconds === undefined ? {} : { seconds }),
      progress: (text) => progress(`${part.name}: ${text}`),
    };
    progress(`${part.name}: starting`);
    const result = await runPart(part, options);
    progress('');
    console.log(`${textOf(result)}\n`);
    results.push(result);
    // After each part: a run that is cut short has printed its findings.
    write(jsonFile, () => `${JSON.stringify(mergeInto(jsonFile, results))}\n`);
    write(htmlFile, () => pageOf(mergeInto(jsonFile, results)));
  }
  for (const file of [jsonFile, htmlFile]) if (file !== undefined) console.log(`written: ${file}`);
  const held = isHeld(mergeInto(undefined, results));
  console.log(held ? 'every bound held' : 'SOME BOUNDS ARE BROKEN');
  return held ? 0 : 1;
}

function write(file: string | undefined, text: () => string): void {
  if (file === undefined) return;
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text());
}

// Of another stage, whose modules need what only a cluster needs.
process.exitCode = process.argv.includes('--cluster')
  ? await import('../cluster/chaos/main.ts').then(({ main }) => main())
  : await runTool(chaosTool, (values) => {
      if (!values.list) return run(chosenRun(values, new Date().toISOString().slice(0, 10)));
      process.stdout.write(listText());
      return 0;
    });
