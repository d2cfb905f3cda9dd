// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Comments before declarations begin with their noun or verb: "Sockets of the server", not "Those of the server", "Of the
 * server", "What is open" or "That are open", which a reader must complete from the declaration. Comments of the product use the
 * field's words and make no person of a program (CONTRIBUTING.md, "Texts"). The comment at the head of a file stands alone: attached to
 * an import, the formatter moves it among the imports. A comment may name only what exists: pages and files of this repository, rules and
 * threats of docs/security.md, decision records. Part of ./run check.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const filesMin = 1_000;
const namesMin = 200;

const filesBelow = (directory: string, pattern: RegExp): readonly string[] =>
  readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' })
    .filter((file) => pattern.test(file) && !/\.gen\./.test(file))
    .filter((file) => !/(^|\/)(node_modules|dist|build|gen)\//.test(file))
    .map((file) => join(directory, file));
const directories = ['packages', 'bpf', 'e2e', 'scripts'];
const sources = directories.flatMap((directory) => filesBelow(directory, /\.(ts|c|h)$/));
const textOf = (file: string): string => readFileSync(join(root, file), 'utf8');

const faults: string[] = [];
const faultAt = (file: string, text: string, index: number, fault: string): void => {
  faults.push(`${file}:${text.slice(0, index).split('\n').length}: ${fault}`);
};

const fragment =
  /\/\*\*?(?:\s*\n\s*\*)?\s+(Of|That|Those|Whose|What|Who|So|And|Nor|To whom|From whom)\s/g;
for (const file of sources) {
  const text = textOf(file);
  for (const { index, 1: word = '' } of text.matchAll(fragment)) {
    faultAt(
      file,
      text,
      index,
      `the comment begins with "${word}": begin with the noun or the verb`,
    );
  }
}

/** Block comments, and line comments of TypeScript; a URL in a string is none. */
const comment = /\/\*[^]*?\*\/|(?<=^|\s)\/\/ .*/gm;
/** Words that make a person of a program, with the field's word. */
const persons: Readonly<Record<string, string>> = {
  nobody: 'no process, no pod, no member',
  somebody: 'another process, a pod',
  whoever: 'a process that',
  anew: 'again',
  told: 'reported, sent',
  heard: 'received',
  hears: 'gets, is called for',
  story: 'record',
  life: 'run of a process, lifetime',
};
/** `told apart` is the verb for it; a life cycle has no other name. */
const person = new RegExp(
  String.raw`\b(${Object.keys(persons).join('|')})\b(?! apart|[ -]cycle)(?!['"\`])`,
  'gi',
);
const isProduct = (file: string): boolean =>
  /^(packages\/[^/]+\/(src|native)|bpf\/(src|include))\//.test(file) &&
  !/\.(test|bench)\.ts$|^packages\/testing\//.test(file);
for (const file of sources.filter(isProduct)) {
  const text = textOf(file);
  for (const { index, 0: found } of text.matchAll(comment)) {
    // Names of the code in a comment stay what they are.
    const prose = found.replaceAll(/`[^`]*`/g, '');
    for (const [word = ''] of prose.matchAll(person)) {
      faultAt(file, text, index, `"${word}": write ${persons[word.toLowerCase()]}`);
    }
  }
}

/** A page of this repository in a comment: by its path, or by its name at the root or in docs. */
const page = /(?<![\w./-])((?:[\w-]+\/)*[\w-]+\.md)\b/g;
/** A file of this repository: by its name, or by the end of its path. Kernels and libc have headers by path. */
const source =
  /(?<![\w./@-])((?:[\w-]+\/)*[\w-]+(?:\.(?:test|fuzz\.test|bench|bpf|gen))?\.(?:ts|c|h|sh|proto))\b/g;
const foreign = /^(include|uapi|linux|net|netinet|sys|kernel|lib|bits|asm-generic|commands)\//;
const foreignNames: ReadonlySet<string> = new Set(['vmlinux.h']);
/** Files that a comment may name, generated ones among them. */
const paths = [...directories, 'docs', 'charts', 'packaging', '.ci'].flatMap((directory) =>
  readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' })
    .filter((file) => !/(^|\/)(node_modules|dist|build)\//.test(file))
    .map((file) => join(directory, file)),
);
const names = new Set(paths.map((path) => basename(path)));
const security = readFileSync(join(root, 'docs/security.md'), 'utf8');
const records = readdirSync(join(root, 'docs/adr')).map((name) => Number(name.slice(0, 4)));
let seen = 0;
for (const file of sources) {
  const text = textOf(file);
  const fault = (index: number, name: string): void =>
    faultAt(file, text, index, `the comment names ${name}, which does not exist`);
  for (const { index, 0: found } of text.matchAll(comment)) {
    for (const { 1: name = '' } of found.matchAll(page)) {
      seen += 1;
      if (!['', 'docs'].some((folder) => existsSync(join(root, folder, name)))) fault(index, name);
    }
    for (const { 1: name = '' } of found.matchAll(source)) {
      seen += 1;
      if (foreign.test(name) || foreignNames.has(name)) continue;
      const exists = name.includes('/')
        ? paths.some((path) => path === name || path.endsWith(`/${name}`))
        : names.has(name);
      if (!exists) fault(index, name);
    }
    for (const { 1: number = '' } of found.matchAll(/\bsafety rules? (\d+)/g)) {
      seen += 1;
      if (!security.includes(`\n| ${number} | `)) fault(index, `safety rule ${number}`);
    }
    for (const { 1: number = '' } of found.matchAll(/\b[Tt]hreats? T(\d+)/g)) {
      seen += 1;
      if (!new RegExp(String.raw`\bT${number}\b`).test(security)) fault(index, `threat T${number}`);
    }
    for (const { 1: number = '' } of found.matchAll(/\bADR (\d+)/g)) {
      seen += 1;
      if (!records.includes(Number(number))) fault(index, `ADR ${number}`);
    }
  }
}
if (seen < namesMin) faults.push(`only ${seen} names in comments were found, ${namesMin} expected`);

const attached = directories
  .flatMap((directory) => filesBelow(directory, /\.ts$/))
  .filter((file) => /\*\/\nimport /.test(textOf(file)));
faults.push(...attached.map((file) => `${file}: put an empty line after the comment at the head`));
if (sources.length < filesMin) {
  faults.push(`only ${sources.length} files were found, ${filesMin} expected`);
}
for (const fault of faults) console.error(`check-comments: ${fault}`);
process.exitCode = faults.length === 0 ? 0 : 1;
