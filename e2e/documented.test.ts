// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Whoever sees a code in `tandem status` finds it in the docs, and the docs name no code that the product has not. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const packages = ['agent', 'core', 'datapath', 'dns-proxy', 'cli'];
/** Codes that are part of another error, or of `tandem policy validate` alone. */
const inner = new Set(['bad-character', 'too-long', 'policy-warning']);

function productFiles(name: string): readonly string[] {
  const directory = join(root, 'packages', name, 'src');
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !/\.(test|bench)\.ts$/.test(file))
    .map((file) => readFileSync(join(directory, file), 'utf8'));
}

const sources = packages.flatMap(productFiles);
const docs = ['operations.md', 'policy.md', 'node-local-dns.md'].map((name) =>
  readFileSync(join(root, 'docs', name), 'utf8'),
);

test('codes of status are in the docs', () => {
  const codes = new Set(
    sources
      .flatMap((text) => text.split('\n'))
      .filter((line) => /\bcode\b *[:=]|add\(pod, /.test(line))
      .flatMap((line) => [...line.matchAll(/'([a-z]+(?:-[a-z]+)+)'/g)])
      .map(([, code = '']) => code)
      .filter((code) => !inner.has(code)),
  );
  assert.ok(codes.size > 50, `found ${[...codes].join()}`);
  assert.deepEqual(
    [...codes].filter((code) => !docs.some((text) => text.includes(`\`${code}\``))),
    [],
  );
});

test('codes in the tables of the docs are codes of the product', () => {
  const rows = docs.flatMap((text) => text.split('\n')).filter((line) => line.startsWith('| `'));
  const codes = rows
    .map((row) => row.split(' | ')[0] ?? '')
    .flatMap((cell) => [...cell.matchAll(/`([a-z]+(?:-[a-z]+)+)`/g)])
    .map(([, code = '']) => code);
  assert.ok(codes.length > 50, `found ${codes.join()}`);
  const product = sources.join('\n');
  const isOfProduct = (code: string): boolean =>
    product.includes(`'${code}'`) || product.includes(`\`${code.replace(/ipv[46]$/, '${')}`);
  assert.deepEqual(
    codes.filter((code) => !isOfProduct(code)),
    [],
  );
});
