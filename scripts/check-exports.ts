// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Checks what the packages export. A package.json names each module that other packages may import. A module with
 * the condition `default` is for product code of other packages; one with `@tandem/source` alone is for tests, the
 * simulator and tools, and a build cannot find it. Modules of `testing` are all for tests. A module that no other
 * package imports is not exported, and neither is a value that no file names, its own included. Called by ./run check, where the compiler refuses imports of other modules.
 */

import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

interface Users {
  readonly product: Set<string>;
  readonly others: Set<string>;
}

/** Importers of each module of each package from outside it, by "package/module". */
function users(): Map<string, Users> {
  const found = new Map<string, Users>();
  const patterns = ['packages/*/{src,test,bench}/**/*.ts', '{e2e,bpf,scripts}/**/*.ts'];
  for (const path of globSync(patterns, { cwd: root })) {
    if (/(^|\/)(node_modules|dist|build)\//.test(path)) continue;
    const own = /^packages\/([^/]+)\/src\//.exec(path)?.[1];
    const isProduct = own !== undefined && !/\.(test|bench)\.ts$/.test(path);
    const text = readFileSync(join(root, path), 'utf8');
    for (const [, name = ''] of text.matchAll(/['"`]@tandem\/([\w./-]+)['"`]/g)) {
      if (name.startsWith(`${path.split('/')[1]}/`)) continue;
      const importers = found.get(name) ?? { product: new Set(), others: new Set() };
      importers[isProduct ? 'product' : 'others'].add(path);
      found.set(name, importers);
    }
  }
  return found;
}

interface Manifest {
  readonly exports?: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

const problems: string[] = [];
const used = users();
for (const name of readdirSync(join(root, 'packages'))) {
  const manifest = `packages/${name}/package.json`;
  const { exports = {} } = JSON.parse(readFileSync(join(root, manifest), 'utf8')) as Manifest;
  for (const [key, { '@tandem/source': source, default: built }] of Object.entries(exports)) {
    const module = key.replace(/^\.\//, '');
    const problem = (text: string): void => void problems.push(`${manifest}: "${key}" ${text}`);
    // Fixtures of a package's tests are beside src.
    const file = module.startsWith('test/') ? `./${module}.ts` : `./src/${module}.ts`;
    if (source !== file) problem(`must have "@tandem/source": "${file}"`);
    else if (!existsSync(join(root, 'packages', name, source))) problem('has no file: remove it');
    if (built !== undefined && built !== `./dist/${module}.js`) {
      problem(`must have "default": "./dist/${module}.js", or none if it is for tests`);
    }
    const { product, others } = used.get(`${name}/${module}`) ?? { product: [], others: [] };
    const isForProduct = [...product].length > 0;
    if (!isForProduct && [...others].length === 0) {
      problem('is imported by no other package: remove it');
    } else if (name !== 'testing' && isForProduct !== (built !== undefined)) {
      problem(
        isForProduct
          ? `needs "default": product code imports it (${[...product][0]})`
          : 'must not have "default": only tests and tools import it',
      );
    }
  }
}
/** Names in each file, comments left out. */
const counts = new Map<string, number>();
const exported: { readonly path: string; readonly name: string }[] = [];
for (const path of globSync('{packages,e2e,bpf,scripts}/**/*.ts', { cwd: root })) {
  if (/(^|\/)(node_modules|dist|build)\//.test(path)) continue;
  const text = readFileSync(join(root, path), 'utf8').replaceAll(/\/\*[^]*?\*\/|\/\/.*/g, '');
  for (const [name] of text.matchAll(/[A-Za-z_$][\w$]*/g)) {
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  if (/\/gen\/|\.gen\.ts$/.test(path)) continue;
  const values = /^export (?:abstract )?(?:async )?(?:const|let|function\*?|class) ([\w$]+)/gm;
  for (const [, name = ''] of text.matchAll(values)) exported.push({ path, name });
}
for (const { path, name } of exported) {
  if (counts.get(name) === 1) problems.push(`${path}: nothing uses ${name}: remove it`);
}
for (const problem of problems) process.stderr.write(`${problem}\n`);
if (problems.length > 0) process.exitCode = 1;
