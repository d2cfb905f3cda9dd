// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Imports that are allowed, and a few rules that hold for every source file. The table is the architecture's:
 * imports point downwards only, and two packages are kept from knowing what is not their business.
 */

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Workspace packages that a package's product code may import. */
const layers: Readonly<Record<string, readonly string[]>> = {
  core: [],
  proto: [],
  'bpf-loader-node': [],
  'dns-sockets': [],
  testing: [],
  datapath: ['core', 'bpf-loader-node'],
  netlink: ['core', 'dns-sockets'],
  kube: ['core'],
  'cni-gate': [],
  'pod-programs': [],
  images: ['runtime'],
  runtime: ['core', 'proto', 'dns-sockets'],
  controller: ['core', 'kube', 'runtime'],
  'dns-proxy': ['core', 'proto', 'bpf-loader-node', 'dns-sockets', 'datapath', 'runtime'],
  agent: [
    ...['core', 'proto', 'bpf-loader-node', 'dns-sockets', 'datapath', 'netlink', 'runtime'],
    ...['dns-proxy', 'kube'],
  ],
  cli: [
    ...['core', 'proto', 'bpf-loader-node', 'dns-sockets', 'datapath', 'netlink', 'runtime'],
    ...['dns-proxy', 'agent'],
  ],
};

/** Modules that a package may not know, though it may import the package they are in. */
const unknown: Readonly<Record<string, RegExp>> = {
  // Kubernetes and the meaning of policy are the agent's.
  'dns-proxy': /^@tandem\/core\/(k8s|policy)\//,
  datapath: /^@tandem\/core\/(k8s|policy|fqdn|dns)\//,
  netlink: /^@tandem\/core\/(k8s|policy|fqdn|dns)\//,
  runtime: /^@tandem\/core\/(k8s|policy)\//,
};

const linesMax = 400;
const testLinesMax = 500;
const medianLinesMax = 110;
/** Longer files, with the reason why they are not taken apart. */
const longFiles: Readonly<Record<string, string>> = {
  'bpf/include/tandem/abi.h': 'the contract of two languages, read from top to bottom',
  'e2e/bench/native/relay.c': 'a program in one file, as are those that it is compared with',
  'e2e/sim/mutations.ts': 'one table of mutations, a row each',
  'packages/datapath/src/abi.gen.ts': 'generated from abi.h',
};

const skipped = new Set([
  'node_modules',
  'dist',
  'build',
  'gen',
  '.git',
  '.tools',
  '.tmp',
  'coverage',
]);

function* filesBelow(directory: string): Generator<string> {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (skipped.has(entry.name)) continue;
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else if (entry.isFile()) yield path;
  }
}

interface Source {
  /** From the repository's root. */
  readonly path: string;
  readonly text: string;
}

const sources: readonly Source[] = ['packages', 'bpf', 'e2e', 'scripts', '.ci']
  .filter((name) => existsSync(join(root, name)))
  .flatMap((name) => [...filesBelow(join(root, name))])
  .concat(join(root, 'run'))
  .filter((path) => /\.(ts|c|h|sh|proto)$|(^|\/)(Makefile|run)$/.test(path))
  .map((path) => ({ path: relative(root, path), text: readFileSync(path, 'utf8') }));

const typescript = sources.filter(({ path }) => path.endsWith('.ts'));
const packageOf = (path: string): string => /^packages\/([^/]+)\//.exec(path)?.[1] ?? '';
/** Code that is in no build: tests, what they share, benchmarks. */
const isTest = (path: string): boolean =>
  /\.(test|bench)\.ts$/.test(path) || /^packages\/[^/]+\/(test|bench|scripts)\//.test(path);

function importsOf(text: string): string[] {
  const statements =
    /^(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]|^import\s*['"]([^'"]+)['"]/gm;
  const calls = /\bimport\(\s*['"]([^'"]+)['"]\s*\)/g;
  return [...text.matchAll(statements), ...text.matchAll(calls)].map(
    (match) => match[1] ?? match[2] ?? '',
  );
}

function problems(check: (source: Source, specifier: string) => string | null): string[] {
  return typescript.flatMap((source) =>
    importsOf(source.text).flatMap((specifier) => {
      const problem = check(source, specifier);
      return problem === null ? [] : [`${source.path} imports ${specifier}: ${problem}`];
    }),
  );
}

/** The file of this repository that a module imports by this name, or null. */
function fileOf(path: string, specifier: string): string | null {
  const workspace = /^@tandem\/([^/]+)\/(.+)$/.exec(specifier);
  if (workspace !== null) {
    const [, name = '', module = ''] = workspace;
    return `packages/${name}/${module.startsWith('test/') ? '' : 'src/'}${module}.ts`;
  }
  return specifier.startsWith('.') ? relative(root, resolve(root, dirname(path), specifier)) : null;
}

/** Files or folders on a circle, each with the next one on its shortest circle. */
function circles(importsBy: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const found: string[] = [];
  for (const start of importsBy.keys()) {
    const previous = new Map<string, string>();
    const queue = [start];
    for (let from = queue.shift(); from !== undefined; from = queue.shift()) {
      for (const to of importsBy.get(from) ?? []) {
        if (!previous.has(to)) queue.push(to);
        if (!previous.has(to)) previous.set(to, from);
      }
    }
    if (!previous.has(start)) continue;
    const way = [start];
    for (let at = previous.get(start); at !== start && at !== undefined; at = previous.get(at)) {
      way.unshift(at);
    }
    found.push([start, ...way].join(' -> '));
  }
  return found;
}

/** Packages whose folders are layers too. What lies beside the folders, such as limits, is for all and of all. */
const packagesInFolders: readonly string[] = ['core', 'dns-proxy'];

const workspaceName = /^@tandem\/([^/]+)/;

describe('layers', () => {
  test('the table names every package', () => {
    const packages = readdirSync(join(root, 'packages')).filter((name) =>
      existsSync(join(root, 'packages', name, 'package.json')),
    );
    assert.deepEqual(packages.sort(), Object.keys(layers).sort());
    assert.ok(typescript.length > 100 && sources.length > typescript.length);
  });

  test('imports between packages point downwards', () => {
    const found = problems(({ path }, specifier) => {
      const own = packageOf(path);
      const target = workspaceName.exec(specifier)?.[1];
      if (own === '' || target === undefined) return null;
      if (target === 'testing') return isTest(path) ? null : 'only tests may';
      return layers[own]?.includes(target) ? null : 'not in the table of layers';
    });
    assert.deepEqual(found, []);
  });

  test('what a package must not know, it does not import', () => {
    const found = problems(({ path }, specifier) => {
      const rule = unknown[packageOf(path)];
      return !isTest(path) && rule?.test(specifier) ? 'not its business' : null;
    });
    assert.deepEqual(found, []);
  });

  test('core is pure: its product code imports itself alone, and a hash', () => {
    const found = problems(({ path }, specifier) =>
      packageOf(path) === 'core' &&
      !isTest(path) &&
      !specifier.startsWith('.') &&
      path !== 'packages/core/src/sha256.ts'
        ? 'no I/O, clock or randomness in core'
        : null,
    );
    assert.deepEqual(found, []);
  });

  test('files of the simulator import values of each other in no circle', () => {
    const importsBy = new Map<string, Set<string>>();
    for (const { path, text } of typescript.filter((source) =>
      source.path.startsWith('e2e/sim/'),
    )) {
      const values = text.replaceAll(/^(?:import|export) type\b[^;]*;/gm, '');
      importsBy.set(path, new Set(importsOf(values).flatMap((name) => fileOf(path, name) ?? [])));
    }
    assert.ok(importsBy.size > 40);
    assert.deepEqual(circles(importsBy), []);
  });

  // The objects of the simulated world hold each other, and each names the types of those that it holds.
  test('files import each other in no circle, types included, but for the simulator', () => {
    const importsBy = new Map<string, Set<string>>();
    for (const { path, text } of typescript) {
      if (path.startsWith('e2e/sim/')) continue;
      importsBy.set(path, new Set(importsOf(text).flatMap((name) => fileOf(path, name) ?? [])));
    }
    assert.deepEqual(circles(importsBy), []);
  });

  for (const name of packagesInFolders) {
    test(`folders of ${name} import each other in no circle`, () => {
      const source = `packages/${name}/src`;
      const importsBy = new Map<string, Set<string>>();
      for (const { path, text } of typescript) {
        const folder = dirname(path);
        if (isTest(path) || !folder.startsWith(`${source}/`)) continue;
        const folders = importsBy.get(folder) ?? new Set();
        importsBy.set(folder, folders);
        for (const specifier of importsOf(text)) {
          const target = dirname(fileOf(path, specifier) ?? source);
          if (target !== folder && target.startsWith(`${source}/`)) folders.add(target);
        }
      }
      assert.ok(importsBy.size > 1);
      assert.deepEqual(circles(importsBy), []);
    });
  }

  test('relative imports stay in their package and name a file', () => {
    const found = problems(({ path }, specifier) => {
      if (!specifier.startsWith('.')) return null;
      const target = relative(root, resolve(root, dirname(path), specifier));
      const own = packageOf(path) === '' ? path.split('/')[0] : `packages/${packageOf(path)}`;
      if (!target.startsWith(`${own}/`)) return 'leaves its package';
      if (isTest(path) || packageOf(path) === '') return null;
      return isTest(target) && !target.includes('/scripts/') ? 'product code imports a test' : null;
    });
    assert.deepEqual(found, []);
  });

  test('what is imported is declared, for tests at least as a development dependency', () => {
    const manifests = new Map<string, { all: Set<string>; product: Set<string> }>();
    const manifestOf = (path: string): { all: Set<string>; product: Set<string> } => {
      const own =
        packageOf(path) === '' ? (path.split('/')[0] ?? '') : `packages/${packageOf(path)}`;
      let manifest = manifests.get(own);
      if (manifest === undefined) {
        const read = (file: string): Record<string, Record<string, string>> =>
          JSON.parse(readFileSync(join(root, file), 'utf8')) as Record<
            string,
            Record<string, string>
          >;
        const { dependencies = {}, devDependencies = {} } = read(`${own}/package.json`);
        const shared = read('package.json')['devDependencies'] ?? {};
        manifest = {
          product: new Set(Object.keys(dependencies)),
          all: new Set(Object.keys({ ...dependencies, ...devDependencies, ...shared })),
        };
        manifests.set(own, manifest);
      }
      return manifest;
    };
    const found = problems(({ path }, specifier) => {
      if (/^(\.|node:)/.test(specifier)) return null;
      const [first = '', second = ''] = specifier.split('/');
      const name = specifier.startsWith('@') ? `${first}/${second}` : first;
      const { product, all } = manifestOf(path);
      const isProduct = packageOf(path) !== '' && !isTest(path);
      return (isProduct ? product : all).has(name) ? null : `${name} is not in its package.json`;
    });
    assert.deepEqual(found, []);
  });
});

describe('every source file', () => {
  test('carries its licence', () => {
    const found = sources.filter(
      ({ text }) => !/SPDX-License-Identifier: /.test(text.split('\n').slice(0, 3).join('\n')),
    );
    assert.deepEqual(
      found.map(({ path }) => path),
      [],
    );
  });

  test(`has ${linesMax} lines at most, ${testLinesMax} as a test, or a reason`, () => {
    const long = sources.filter(
      ({ path, text }) =>
        text.split('\n').length - 1 > (/\.test\.ts$|\/test\//.test(path) ? testLinesMax : linesMax),
    );
    assert.deepEqual(
      long.map(({ path }) => path).filter((path) => longFiles[path] === undefined),
      [],
    );
    const needless = Object.keys(longFiles).filter(
      (path) => !long.some((source) => source.path === path),
    );
    assert.deepEqual(needless, [], 'exceptions that are none any more');
  });
});

test(`the median file of the product has fewer than ${medianLinesMax} lines`, () => {
  const lines = sources
    .filter(({ path }) => /^(packages\/[^/]+\/(src|native)|bpf\/(src|include))\//.test(path))
    .filter(({ path }) => !isTest(path) && !/\.gen\.ts$|^packages\/testing\//.test(path))
    .map(({ text }) => text.split('\n').length - 1)
    .sort((left, right) => left - right);
  assert.ok(lines.length > 500, `${lines.length} files`);
  const median = lines[Math.floor(lines.length / 2)]!;
  assert.ok(median < medianLinesMax, `${median}`);
});

test('a file that is named as a test has tests', () => {
  const isEmpty = typescript.filter(
    ({ path, text }) =>
      path.endsWith('.test.ts') && !/^\s*(?:await )?(?:test|describe)(?:\.\w+)?\(/m.test(text),
  );
  assert.deepEqual(
    isEmpty.map(({ path }) => path),
    [],
  );
});

test('every package has a README that names files it has', () => {
  const missing: string[] = [];
  for (const name of readdirSync(join(root, 'packages'))) {
    const directory = join(root, 'packages', name);
    const text = readFileSync(join(directory, 'README.md'), 'utf8');
    for (const [, path = ''] of text.matchAll(/`([\w./-]+\.(?:ts|c))`/g)) {
      const places = [directory, join(directory, 'src'), join(directory, 'native'), root];
      if (!places.some((place) => existsSync(join(place, path)))) missing.push(`${name}: ${path}`);
    }
  }
  assert.deepEqual(missing, []);
});

/** Where the product puts itself together; the simulator runs the same. */
const assemblies = [
  'packages/dns-proxy/src/worker/assemble.ts',
  'packages/dns-proxy/src/worker/dns-worker.ts',
  'packages/dns-proxy/src/store/assemble.ts',
];
/** Parts of an assembly that the simulator makes too, with the reason. */
const madeTwice: Readonly<Record<string, string>> = {
  Float64Array: 'of the language',
  Uint8Array: 'of the language',
  PolicyTables: 'the agent keeps a copy of the tables that its worker serves',
  QueryView: 'handed in, because it is large and of all schedules',
  ReplyView: 'handed in, because it is large and of all schedules',
  QueryLimits: 'handed in, with accounts of the simulator around it',
};

test('what the assembly makes, the simulator does not make', () => {
  const made = (text: string): string[] =>
    [...text.matchAll(/\bnew ([A-Z]\w+)/g)].map(([, name = '']) => name);
  const textOf = (path: string): string =>
    typescript.find((source) => source.path === path)?.text ?? '';
  const parts = new Set(assemblies.flatMap((path) => made(textOf(path))));
  assert.ok(parts.size > 20, `the assembly makes ${parts.size} things`);
  const found = typescript
    .filter(({ path }) => path.startsWith('e2e/sim/'))
    .flatMap(({ path, text }) =>
      made(text)
        .filter((name) => parts.has(name) && madeTwice[name] === undefined)
        .map((name) => `${path} makes a ${name}`),
    );
  assert.deepEqual(found, []);
});

test('paths that documents name exist', () => {
  const topLevel = new Set(readdirSync(root));
  const missing: string[] = [];
  const internals = readdirSync(join(root, 'docs/internals')).map(
    (name) => `docs/internals/${name}`,
  );
  const guides = [
    'README.md',
    'ARCHITECTURE.md',
    'CONTRIBUTING.md',
    'SECURITY.md',
    'bpf/README.md',
  ];
  for (const document of [...guides, ...internals]) {
    const text = readFileSync(join(root, document), 'utf8');
    for (const [, code = ''] of text.matchAll(/`([^`\n]+)`/g)) {
      const path = code.replace(/^\.\//, '').replace(/\/?[^/]*\*.*$/, '');
      const isPath = /^[\w.@/-]+$/.test(path) && path.includes('/');
      if (!isPath || !topLevel.has(path.split('/')[0] ?? '')) continue;
      if (!existsSync(join(root, path))) missing.push(`${document}: ${code}`);
    }
  }
  assert.deepEqual(missing, []);
});
