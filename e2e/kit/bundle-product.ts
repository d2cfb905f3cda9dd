// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Writes agent, DNS proxy and CLI into a directory that is laid out as `packages` of a checkout, each program bundled as in
 * the images: scenarios that start them from there (TANDEM_TEST_PACKAGES) test what the images run, and a start takes less
 * CPU time than one from some hundred modules (`tandem --help`: 0.17 s instead of 0.36 s). Not minified, so that a stack names functions and readable lines.
 * Argument: the directory, which is made anew.
 */

import { cpSync, mkdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundles, loadedLibraries } from '@tandem/images/bundle';

const root = fileURLToPath(new URL('../..', import.meta.url));
const [, , directory] = process.argv;
if (directory === undefined) throw new TypeError('give the directory to write to');

/** Programs by package, with the file that starts each. */
const programs = {
  agent: 'tandem-agent',
  'dns-proxy': 'tandem-dns-proxy',
  cli: 'tandem',
} as const;
/** Threads, which a program finds beside itself. */
const threads = ['worker', 'policy/compile-worker'] as const;
const addons = {
  'bpf_loader.node': 'packages/bpf-loader-node/build/bpf_loader.node',
  'dns_sockets.node': 'packages/dns-sockets/build/dns_sockets.node',
} as const;
/** Directories that a bundle finds three levels up. */
const beside = { bpf: 'bpf', 'cni-gate': 'packages/cni-gate' } as const;

rmSync(directory, { recursive: true, force: true });
const link = (from: string, to: string): void => {
  mkdirSync(dirname(to), { recursive: true });
  symlinkSync(from, to);
};

const names = Object.keys(programs);
const { outputFiles } = await bundles(root, {
  entries: Object.fromEntries(
    names.flatMap((name) => [
      [`${name}/dist/main`, `packages/${name}/dist/main.js`],
      ...threads.map((thread) => [
        `${name}/dist/${thread}`,
        `packages/dns-proxy/dist/${thread}.js`,
      ]),
    ]),
  ),
  directory: join(directory, 'packages'),
  isMinified: false,
});
for (const { path, contents } of outputFiles) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, contents);
}
writeFileSync(join(directory, 'package.json'), '{"type":"module"}');
for (const [name, program] of Object.entries(programs)) {
  const bin = join('packages', name, 'bin');
  cpSync(join(root, bin, program), join(directory, bin, program));
  for (const [addon, from] of Object.entries(addons))
    link(join(root, from), join(directory, 'packages', name, 'build', addon));
}
for (const [name, from] of Object.entries(beside)) link(join(root, from), join(directory, name));
// @kubernetes/client-node, which the images have not, is asked for where a kubeconfig is given.
for (const [library, owner] of [
  ...loadedLibraries.map((name) => [name, 'runtime'] as const),
  ['@kubernetes/client-node', 'kube'] as const,
]) {
  const from = realpathSync(join(root, 'packages', owner, 'node_modules', library));
  link(from, join(directory, 'node_modules', library));
}
