// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Kubernetes and what it needs, built from the Go module proxy at fixed versions and kept in the user's cache. A module's
 * go.sum comes from the proxy's checksum database; nothing is fetched that is there already.
 */

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

interface GoModule {
  readonly path: string;
  readonly version: string;
  /** By name of the program: its package. */
  readonly programs: Readonly<Record<string, string>>;
  /** Lines `old => new version` of go.mod. */
  readonly replace?: readonly string[];
  /** Whether the module names parts of its own repository as v0.0.0, as Kubernetes does: replaced by this version. */
  readonly stagingVersion?: string;
  readonly linkFlags?: string;
}

const kubeVersion = 'v1.36.3';
const versionVariables = 'k8s.io/component-base/version';

/** In the order in which they are built: the longest first. */
export const goModules: readonly GoModule[] = [
  {
    path: 'k8s.io/kubernetes',
    version: kubeVersion,
    stagingVersion: 'v0.36.3',
    programs: {
      ...Object.fromEntries(
        [
          ...['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'],
          ...['kubelet', 'kube-proxy', 'kubectl'],
        ].map((name) => [name, `k8s.io/kubernetes/cmd/${name}`]),
      ),
      agnhost: 'k8s.io/kubernetes/test/images/agnhost',
    },
    // Programs without a version are refused by each other.
    linkFlags: `-X ${versionVariables}.gitVersion=${kubeVersion} -X ${versionVariables}.gitMajor=1 -X ${versionVariables}.gitMinor=36`,
  },
  {
    // Debian's has no RequestProgress, so no WatchList.
    path: 'go.etcd.io/etcd/server/v3',
    version: 'v3.7.3',
    programs: { etcd: 'go.etcd.io/etcd/server/v3' },
  },
  {
    path: 'github.com/coredns/coredns',
    version: 'v1.15.0',
    programs: { coredns: 'github.com/coredns/coredns' },
  },
  {
    path: 'helm.sh/helm/v3',
    version: 'v3.22.0',
    programs: { helm: 'helm.sh/helm/v3/cmd/helm' },
  },
];

const cacheRoot = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'tandem', 'go');

/** Where the program is, or will be. */
export function programPath(name: string): string {
  const module = goModules.find(({ programs }) => name in programs);
  if (module === undefined) throw new TypeError(`no Go module has ${name}`);
  return join(directoryOf(module), name);
}

/** Builds what is not there. `say`: progress, a line each. */
export async function buildGoPrograms(say: (line: string) => void): Promise<void> {
  const missing = goModules.filter(
    (module) => !Object.keys(module.programs).every((name) => existsSync(programPath(name))),
  );
  if (missing.length === 0) return;
  requireGo();
  for (const module of missing) {
    const startedMs = Date.now();
    say(`building ${module.path} ${module.version}`);
    // oxlint-disable-next-line no-await-in-loop -- each uses all CPUs
    await build(module);
    say(`built ${module.path} in ${Math.round((Date.now() - startedMs) / 1000)} s`);
  }
}

function requireGo(): void {
  try {
    execFileSync('go', ['version'], { stdio: 'ignore' });
  } catch {
    throw new Error(
      'the cluster is built by Go: install go 1.21 or newer (a newer one is fetched by it)',
    );
  }
}

function directoryOf({ path, version }: GoModule): string {
  return join(cacheRoot, `${path.replaceAll('/', '_')}@${version}`);
}

async function build(module: GoModule): Promise<void> {
  const directory = directoryOf(module);
  const work = join(directory, 'module');
  mkdirSync(work, { recursive: true });
  const packages = Object.values(module.programs);
  writeFileSync(
    join(work, 'tools.go'),
    `//go:build tools\n\npackage tools\n\nimport (\n${packages.map((each) => `\t_ "${each}"`).join('\n')}\n)\n`,
  );
  writeFileSync(join(work, 'go.mod'), goMod(module));
  await go(work, ['mod', 'tidy', '-e']);
  const flags = ['-trimpath', '-ldflags', `-s -w ${module.linkFlags ?? ''}`];
  const output = join(work, 'bin');
  mkdirSync(output, { recursive: true });
  for (const [name, path] of Object.entries(module.programs)) {
    // oxlint-disable-next-line no-await-in-loop
    await go(work, ['build', '-mod=mod', ...flags, '-o', join(output, name), path]);
    renameSync(join(output, name), join(directory, name));
  }
}

function goMod(module: GoModule): string {
  const { path, version, replace = [], stagingVersion } = module;
  const staged = stagingVersion === undefined ? [] : stagedModules(module);
  return [
    'module tandem.dev/cluster',
    'go 1.26.0',
    `require ${path} ${version}`,
    ...replace.map((line) => `replace ${line}`),
    ...staged.map((name) => `replace ${name} => ${name} ${stagingVersion ?? ''}`),
    '',
  ].join('\n');
}

/** Parts of the module's repository that are modules of their own. */
function stagedModules({ path, version }: GoModule): readonly string[] {
  const text = execFileSync('go', ['mod', 'download', '-json', `${path}@${version}`], {
    encoding: 'utf8',
    env: { ...process.env, GOFLAGS: '' },
  });
  const { GoMod: file } = JSON.parse(text) as { readonly GoMod: string };
  return [...readFileSync(file, 'utf8').matchAll(/^\s*(k8s\.io\/\S+) v0\.0\.0(?=\s|$)/gm)].map(
    ([, name = '']) => name,
  );
}

async function go(directory: string, args: readonly string[]): Promise<void> {
  const child = spawn('go', ['-C', directory, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, CGO_ENABLED: '0', GOWORK: 'off' },
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (part: string) => (said = `${said}${part}`.slice(-4000)));
  }
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`go ${args.slice(0, 2).join(' ')} failed: ${said.trim()}`);
}
