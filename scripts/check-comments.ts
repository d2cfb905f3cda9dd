// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Comments before declarations begin with their noun or verb: "Sockets of the server", not "Those of the server", "Of the
 * server", "What is open" or "That are open", which a reader must complete from the declaration. The comment
 * at the head of a file stands alone: attached to an import, the formatter moves it among the imports. A page that a comment
 * names exists. Part of ./run check.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const filesMin = 1_000;

const filesBelow = (directory: string, pattern: RegExp): readonly string[] =>
  readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' })
    .filter((file) => pattern.test(file) && !/\.gen\./.test(file))
    .filter((file) => !/(^|\/)(node_modules|dist|build|gen)\//.test(file))
    .map((file) => join(directory, file));
const directories = ['packages', 'bpf', 'e2e', 'scripts'];
const sources = directories.flatMap((directory) => filesBelow(directory, /\.(ts|c|h)$/));

const fragment =
  /\/\*\*?(?:\s*\n\s*\*)?\s+(Of|That|Those|Whose|What|Who|So|And|Nor|To whom|From whom)\s/g;

const faults: string[] = sources.flatMap((file) => {
  const text = readFileSync(join(root, file), 'utf8');
  return [...text.matchAll(fragment)].map(({ index, 1: word = '' }) => {
    const line = text.slice(0, index).split('\n').length;
    return `${file}:${line}: the comment begins with "${word}": begin with the noun or the verb`;
  });
});
/** A page of this repository in a line of a comment: by its path, or by its name at the root or in docs. */
const page = /^\s*(?:\/\/|\/?\*).*?(?<![\w./-])((?:[\w-]+\/)*[\w-]+\.md)\b/gm;
for (const file of sources) {
  const text = readFileSync(join(root, file), 'utf8');
  for (const { index, 1: name = '' } of text.matchAll(page)) {
    if (['', 'docs'].some((folder) => existsSync(join(root, folder, name)))) continue;
    const line = text.slice(0, index).split('\n').length;
    faults.push(`${file}:${line}: the comment names ${name}, which does not exist`);
  }
}
const attached = directories
  .flatMap((directory) => filesBelow(directory, /\.ts$/))
  .filter((file) => /\*\/\nimport /.test(readFileSync(join(root, file), 'utf8')));
faults.push(...attached.map((file) => `${file}: put an empty line after the comment at the head`));
if (sources.length < filesMin) {
  faults.push(`only ${sources.length} files were found, ${filesMin} expected`);
}
for (const fault of faults) console.error(`check-comments: ${fault}`);
process.exitCode = faults.length === 0 ? 0 : 1;
