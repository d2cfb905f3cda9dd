// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * docs/glossary.md: each word is in use, is defined once and in alphabetical order, and each name of the code exists. Part of ./run
 * check.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const wordsMin = 40;

function textsBelow(directory: string, pattern: RegExp): string {
  return readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' })
    .filter((file) => pattern.test(file) && !/(^|\/)(node_modules|dist|build)\//.test(file))
    .map((file) => readFileSync(join(root, directory, file), 'utf8'))
    .join('\n');
}

const glossary = readFileSync(join(root, 'docs/glossary.md'), 'utf8');
const rows = glossary
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| word |'))
  .map((line) => line.split('|').map((cell) => cell.trim()))
  .map(([, word = '', meaning = '', field = '', code = '']) => ({ word, meaning, field, code }));

const documents = [
  ...['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md'].map((name) =>
    readFileSync(join(root, name), 'utf8'),
  ),
  textsBelow('docs', /\.md$/).replaceAll(glossary, ''),
].join('\n');
const code = [
  ...readdirSync(join(root, 'packages')).map((name) =>
    textsBelow(`packages/${name}`, /^src\/.*\.ts$/),
  ),
  textsBelow('bpf/include', /\.h$/),
].join('\n');

const faults: string[] = [];
if (rows.length < wordsMin) faults.push(`only ${rows.length} words were found`);
const words = rows.map(({ word }) => word.toLowerCase());
if (words.join() !== [...new Set(words)].toSorted().join()) {
  const index = words.findIndex((word, at) => at > 0 && word <= (words[at - 1] ?? ''));
  faults.push(`"${words[index]}" is out of alphabetical order, or defined twice`);
}
for (const { word, meaning, field, code: names } of rows) {
  if (meaning === '' || field === '') faults.push(`${word}: has no meaning or no equivalent`);
  const stem = word.replace(/e$/, '').replaceAll(' ', '\\s+');
  const isUsed = new RegExp(`\\b${stem}(?:e|s|es|ed|ing)?\\b`, 'i').test(documents);
  if (!isUsed) faults.push(`${word}: is in no other document`);
  const [, name = ''] = /^`([^`]+)`$/.exec(names) ?? [];
  const exists = name.includes('/') ? existsSync(join(root, name)) : code.includes(name);
  if (name === '' || !exists) faults.push(`${word}: the code has no ${names}`);
}
for (const page of ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md']) {
  if (!readFileSync(join(root, page), 'utf8').includes('docs/glossary.md')) {
    faults.push(`${page}: has no link to the glossary`);
  }
}
for (const fault of faults) console.error(`docs/glossary.md: ${fault}`);
process.exitCode = faults.length === 0 ? 0 : 1;
