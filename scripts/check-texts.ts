// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Texts that operators read, held to what can be checked of the rule in CONTRIBUTING.md (a noun, one verb, the field's word, then the
 * reason or the fix): HELP of metrics, help of options, codes, messages of logs, summaries of commands. Part of ./run check.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const source = (path: string): string => new URL(`../packages/${path}`, import.meta.url).href;

interface Text {
  readonly where: string;
  readonly text: string;
}
type Rule = (text: string) => string | null;

/** Words that make a person of a program, or say nothing. The field has a word for each. */
const banned =
  /\b(told|tells|knows|heard|hears|away|life|lives|story|somebody|nobody|those of them|as it should be|no longer so|of no use|mend|mended|mends|anew|all the same)\b/i;
/** Clauses, pronouns and questions in the place of a noun. */
const wrongBeginning =
  /^(those|that|what|who|whom|whose|how|where|when|whether|which|it|its|they|their|this is|these|times that|times the)\b/i;

const hasNoBanned: Rule = (text) => {
  const found = banned.exec(text)?.[0];
  return found === undefined
    ? null
    : `"${found}": use the field's word (reported, has, unreachable, run, record, corrected)`;
};
const beginsWithNoun: Rule = (text) => {
  const found = wrongBeginning.exec(text)?.[0];
  return found === undefined ? null : `begins with "${found}": begin with the noun or the verb`;
};
const isClause: Rule = (text) => (/\.$/.test(text) ? 'ends with a full stop' : null);
const isSentence: Rule = (text) =>
  /^[^a-z]/.test(text) && /[.]$/.test(text)
    ? null
    : 'is no sentence with a capital letter and a full stop';

/** Metrics of Node.js, as prom-client registers them. */
const isForeign = (name: string): boolean => /^(nodejs|process)_/.test(name);

async function metricTexts(): Promise<readonly Text[]> {
  const { metricsOfProduct } = await import(
    new URL('../e2e/kit/product-metrics.ts', import.meta.url).href
  );
  const { controllerMetrics } = await import(source('controller/src/metrics.ts'));
  const { counterHelp } = await import(source('dns-proxy/src/counters.ts'));
  const { tdCounterHelp } = await import(source('datapath/src/abi.gen.ts'));
  const metrics = [...metricsOfProduct(), ...Object.values(controllerMetrics)] as readonly {
    readonly name: string;
    readonly help: string;
  }[];
  const counters = Object.entries({ ...counterHelp, ...tdCounterHelp } as Record<string, string>);
  return [
    ...metrics
      .filter(({ name }) => !isForeign(name))
      .map(({ name, help }) => ({ where: `HELP of ${name}`, text: help })),
    ...counters.map(([name, text]) => ({ where: `counter ${name}`, text })),
  ];
}

async function optionTexts(): Promise<readonly Text[]> {
  const { agentConfigSpec } = await import(source('agent/src/config.ts'));
  const { proxyConfigSpec } = await import(source('dns-proxy/src/config.ts'));
  const { controllerConfigSpec } = await import(source('controller/src/config.ts'));
  return [agentConfigSpec, proxyConfigSpec, controllerConfigSpec].flatMap(({ program, options }) =>
    Object.entries(options as Record<string, { readonly description: string }>).map(
      ([name, { description }]) => ({ where: `${program} option ${name}`, text: description }),
    ),
  );
}

async function codeTexts(): Promise<readonly Text[]> {
  const { catalogue } = await import(source('cli/src/explain/catalogue.ts'));
  return (
    catalogue as readonly {
      readonly code: string;
      readonly meaning: string;
      readonly fix: string;
    }[]
  ).flatMap(({ code, meaning, fix }) => [
    { where: `meaning of ${code}`, text: meaning },
    { where: `fix of ${code}`, text: fix },
  ]);
}

function productFiles(): readonly string[] {
  return readdirSync(join(root, 'packages'))
    .filter((name) => name !== 'testing')
    .flatMap((name) =>
      readdirSync(join(root, 'packages', name), { recursive: true, encoding: 'utf8' })
        .filter((file) => /^src\/.*\.ts$/.test(file) && !/\.(test|bench)\.ts$/.test(file))
        .map((file) => `packages/${name}/${file}`),
    );
}

const literal = String.raw`(?:'((?:[^'\\\n]|\\.)*)'|"((?:[^"\\\n]|\\.)*)"|\`([^\`]*)\`)`;

/** First arguments of calls and values of fields, by a regular expression that ends where the literal begins. */
function textsAfter(files: readonly string[], before: string): readonly Text[] {
  const pattern = new RegExp(`${before}\\s*${literal}`, 'g');
  return files.flatMap((file) => {
    const content = readFileSync(join(root, file), 'utf8');
    return [...content.matchAll(pattern)].map((match) => ({
      where: `${file}:${content.slice(0, match.index).split('\n').length}`,
      text: (match[1] ?? match[2] ?? match[3] ?? '').replace(/\\(.)/g, '$1'),
    }));
  });
}

const files = productFiles();
const logs = textsAfter(files, String.raw`\blog\.(?:info|warn|error|debug)\(`);
const commands = files.filter((file) => file.startsWith('packages/cli/'));
const summaries = [
  ...textsAfter(commands, String.raw`\bsummary:`),
  ...textsAfter(commands, String.raw`\.description\(`),
];
const flags = textsAfter(
  commands,
  String.raw`(?:new Option|\.option|\.requiredOption)\(\s*'[^']+',`,
);

/** Limits that docs/reference/limits.md lists, by the comment before each. */
const limits = files
  .filter((file) => /(^|\/)limits\.ts$/.test(file) && !file.startsWith('packages/cli/'))
  .flatMap((file) => {
    const content = readFileSync(join(root, file), 'utf8');
    const comments = /\/\*\*((?:[^*]|\*(?!\/))*)\*\/\nexport const (\w+)/g;
    return [...content.matchAll(comments)].map(([, comment = '', name = '']) => ({
      where: `${file} ${name}`,
      text: comment.replaceAll(/\s*\n\s*\*\s?/g, ' ').trim(),
    }));
  });

/** Messages of degradations, diagnostics, hints and errors, which a value may begin. */
const messages = textsAfter(files, String.raw`\b(?:message|fix|why)\s*[:=]`);

const groups: readonly {
  readonly name: string;
  readonly min: number;
  readonly texts: readonly Text[];
  readonly rules: readonly Rule[];
}[] = [
  { name: 'metrics', min: 150, texts: await metricTexts(), rules: [beginsWithNoun, isClause] },
  { name: 'options', min: 50, texts: await optionTexts(), rules: [beginsWithNoun, isSentence] },
  { name: 'codes', min: 300, texts: await codeTexts(), rules: [beginsWithNoun, isClause] },
  { name: 'limits', min: 200, texts: limits, rules: [beginsWithNoun] },
  { name: 'logs', min: 80, texts: logs, rules: [beginsWithNoun, isClause] },
  { name: 'commands', min: 12, texts: summaries, rules: [beginsWithNoun] },
  { name: 'messages', min: 150, texts: messages, rules: [] },
  { name: 'flags', min: 12, texts: flags, rules: [beginsWithNoun, isClause] },
];

let faults = 0;
for (const { name, min, texts, rules } of groups) {
  if (texts.length < min) {
    console.error(`check-texts: only ${texts.length} texts of ${name} were found, ${min} expected`);
    faults += 1;
  }
  for (const { where, text } of texts) {
    for (const rule of [hasNoBanned, ...rules]) {
      const fault = rule(text);
      if (fault === null) continue;
      console.error(`${where}: ${fault}\n  ${text}`);
      faults += 1;
    }
  }
}
process.exitCode = faults === 0 ? 0 : 1;
