// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The Go programs of the bed: modules of pinned versions, built once and kept in the cache. */

import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, startProcess } from '@tandem/testing/process';
import { findGo, type GoToolchain } from './go-toolchain.ts';
import { cacheDirectory } from './layout.ts';
import type { Progress } from './progress.ts';

export const kubernetesVersion = 'v1.36.3';
/** The release of agnhost that the e2e tests of this Kubernetes ask for. */
export const agnhostVersion = '2.63.0';
export const corednsVersion = 'v1.15.0';
export const cyclonusVersion = 'v0.5.6';
export const networkPolicyApiVersion = 'v0.3.0';

interface GoProgram {
  readonly module: string;
  readonly version: string;
  /** Binary to package. */
  readonly binaries: Readonly<Record<string, string>>;
  /** A main package of ours, built in place of one of the module's. */
  readonly mainFile?: string;
  /** Other modules that it imports, with their versions. */
  readonly requires?: Readonly<Record<string, string>>;
  /** Kubernetes' go.mod requires its own parts as v0.0.0, which only its repository can replace. */
  readonly hasStagedModules?: true;
  readonly ldflags?: readonly string[];
  /** Built with the C compiler, and linked statically all the same. */
  readonly hasC?: true;
  /** Module to the version that is taken in place of the required one. */
  readonly replaced?: Readonly<Record<string, string>>;
  /** A change of one file of the module, for the build alone. */
  readonly edited?: Edited;
}

interface Edited {
  /** In the module. */
  readonly file: string;
  /** Each text is there once. */
  readonly replaced: readonly (readonly [from: string, to: string])[];
  /** Added at its end. */
  readonly added: string;
}

const kubernetesPackages = [
  ...['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'],
  ...['kubelet', 'kube-proxy', 'kubectl'],
];

const versionVariable = 'k8s.io/component-base/version';

export type ProgramName =
  | 'kubernetes'
  | 'agnhost'
  | 'netpol'
  | 'network-policy-api'
  | 'oracle'
  | 'etcd'
  | 'coredns'
  | 'helm'
  | 'helm-4'
  | 'actionlint'
  | 'registry'
  | 'cosign'
  | 'flannel'
  | 'flannel-cni';

const programs: Readonly<Record<ProgramName, GoProgram>> = {
  kubernetes: {
    module: 'k8s.io/kubernetes',
    version: kubernetesVersion,
    binaries: {
      ...Object.fromEntries(
        kubernetesPackages.map((name) => [name, `k8s.io/kubernetes/cmd/${name}`]),
      ),
      agnhost: 'k8s.io/kubernetes/test/images/agnhost',
    },
    hasStagedModules: true,
    ldflags: [
      `-X ${versionVariable}.gitVersion=${kubernetesVersion}`,
      `-X ${versionVariable}.gitMajor=1`,
      `-X ${versionVariable}.gitMinor=${kubernetesVersion.split('.')[1]}`,
      `-X ${versionVariable}.gitTreeState=clean`,
      `-X k8s.io/client-go/pkg/version.gitVersion=${kubernetesVersion}`,
    ],
  },
  // Before the real agnhost: SCTP on kernels that have none.
  agnhost: {
    module: 'golang.org/x/net',
    version: 'v0.62.0',
    binaries: { agnhost: '.' },
    mainFile: fileURLToPath(new URL('agnhost/main.go', import.meta.url)),
  },
  // Kubernetes' own NetworkPolicy specs.
  netpol: {
    module: 'k8s.io/kubernetes',
    version: kubernetesVersion,
    binaries: { netpol: '.' },
    mainFile: fileURLToPath(new URL('netpol/main.go', import.meta.url)),
    hasStagedModules: true,
  },
  // The conformance suite of ClusterNetworkPolicy, whose definition is in the same module.
  'network-policy-api': {
    module: 'sigs.k8s.io/network-policy-api',
    version: networkPolicyApiVersion,
    binaries: { 'network-policy-api': '.' },
    mainFile: fileURLToPath(new URL('network-policy-api/main.go', import.meta.url)),
    edited: {
      file: 'conformance/utils/kubernetes/helper.go',
      replaced: [['func RunCommandFromPod(', 'func runCommandOnce(']],
      // SPDY has no close frame: a stream that is cut ends as one without output and without an error, which the suite takes for a
      // connection. Our agnhost always says what became of one.
      added: `
// RunCommandFromPod asks again when the stream of exec was cut, which agnhost connect never leaves without a word.
func RunCommandFromPod(client k8sclient.Interface, kubeConfig *rest.Config, podNamespace, podName string, cmd []string) (stdout string, stderr string, err error) {
	for tries := 0; tries < 5; tries++ {
		stdout, stderr, err = runCommandOnce(client, kubeConfig, podNamespace, podName, cmd)
		if err != nil || stdout != "" || stderr != "" {
			return stdout, stderr, err
		}
	}
	return "", "", fmt.Errorf("exec in %s/%s said nothing: its stream was cut", podNamespace, podName)
}
`,
    },
  },
  // What the API server and Cyclonus make of NetworkPolicies.
  oracle: {
    module: 'k8s.io/kubernetes',
    version: kubernetesVersion,
    binaries: { oracle: '.' },
    mainFile: fileURLToPath(new URL('../policy-oracle/main.go', import.meta.url)),
    requires: { 'github.com/mattfenwick/cyclonus': cyclonusVersion },
    hasStagedModules: true,
  },
  // WatchList needs an etcd that reports progress: 3.4 of Debian does not.
  etcd: {
    module: 'go.etcd.io/etcd/server/v3',
    version: 'v3.7.3',
    binaries: { etcd: 'go.etcd.io/etcd/server/v3' },
  },
  coredns: {
    module: 'github.com/coredns/coredns',
    version: corednsVersion,
    binaries: { coredns: '.' },
    mainFile: fileURLToPath(new URL('coredns/main.go', import.meta.url)),
  },
  helm: {
    module: 'helm.sh/helm/v3',
    version: 'v3.22.0',
    binaries: { helm: 'helm.sh/helm/v3/cmd/helm' },
  },
  'helm-4': {
    module: 'helm.sh/helm/v4',
    version: 'v4.3.2',
    binaries: { helm: 'helm.sh/helm/v4/cmd/helm' },
  },
  // Where a release is pushed to, in its test.
  registry: {
    module: 'github.com/distribution/distribution/v3',
    version: 'v3.1.2',
    binaries: { registry: 'github.com/distribution/distribution/v3/cmd/registry' },
  },
  // What the workflow of a release signs with; its test is of the long form.
  cosign: {
    module: 'github.com/sigstore/cosign/v3',
    version: 'v3.1.3',
    binaries: { cosign: 'github.com/sigstore/cosign/v3/cmd/cosign' },
  },
  actionlint: {
    module: 'github.com/rhysd/actionlint',
    version: 'v1.7.12',
    binaries: { actionlint: 'github.com/rhysd/actionlint/cmd/actionlint' },
  },
  flannel: {
    module: 'github.com/flannel-io/flannel',
    version: 'v0.28.10',
    binaries: { flanneld: 'github.com/flannel-io/flannel' },
    // its udp backend is C
    hasC: true,
    // a cloud's client, of a version that the module proxy refuses
    replaced: { 'github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/vpc': 'v1.0.1000' },
  },
  // Its plugin, from before it had a repository of its own, which the module proxy refuses.
  'flannel-cni': {
    module: 'github.com/containernetworking/plugins',
    version: 'v0.9.1',
    binaries: { flannel: 'github.com/containernetworking/plugins/plugins/meta/flannel' },
  },
};

const buildTimeoutMs = 3_600_000;
const downloadTimeoutMs = 600_000;
const errorLines = 30;

/** Directory of its binaries; they may not be built yet. What we wrote ourselves is part of the version. */
export function programDirectory(name: ProgramName): string {
  const { version, mainFile, requires, edited } = programs[name];
  const directory = join(cacheDirectory, 'programs', `${name}-${version}`);
  if (mainFile === undefined) return directory;
  const own = createHash('sha256')
    .update(readFileSync(mainFile))
    .update(JSON.stringify([requires ?? {}, edited ?? {}]));
  return `${directory}-${own.digest('hex').slice(0, 8)}`;
}

/** The file of a binary; it may not be built yet. */
export function binary(program: ProgramName, name: string = program): string {
  return join(programDirectory(program), name);
}

/** Builds what the cache does not have. @throws Error with the end of go's output. */
export async function buildPrograms(
  names: readonly ProgramName[],
  progress: Progress,
): Promise<void> {
  const missing = names.filter((name) => !existsSync(programDirectory(name)));
  if (missing.length === 0) return;
  const go = await findGo();
  for (const name of missing) await build(name, go, progress);
}

/** Where the module cache has the module's sources. */
export async function moduleSources(name: ProgramName): Promise<string> {
  const { module, version } = programs[name];
  return (await download(await findGo(), module, version)).Dir;
}

/** Module of which only files are read: custom resources of the operator of Prometheus, as it installs them. */
const prometheusOperator = {
  module: 'github.com/prometheus-operator/prometheus-operator',
  version: 'v0.85.0',
} as const;

/** Their CustomResourceDefinitions, by the plural of the kind; downloaded when they are asked for first. */
export async function monitoringDefinition(plural: string): Promise<string> {
  const { module, version } = prometheusOperator;
  const { Dir } = await download(await findGo(), module, version);
  return join(Dir, 'example/prometheus-operator-crd', `monitoring.coreos.com_${plural}.yaml`);
}

/** Module of which only the definition of ClusterNetworkPolicy is read. */
const networkPolicyApi = { module: 'sigs.k8s.io/network-policy-api', version: 'v0.3.0' } as const;

/** CustomResourceDefinition of ClusterNetworkPolicy; downloaded when it is asked for first. */
export async function clusterPolicyDefinition(
  channel: 'standard' | 'experimental',
): Promise<string> {
  const { module, version } = networkPolicyApi;
  const { Dir } = await download(await findGo(), module, version);
  const file = 'policy.networking.k8s.io_clusternetworkpolicies.yaml';
  return join(Dir, 'config/crd', channel, file);
}

async function build(name: ProgramName, go: GoToolchain, progress: Progress): Promise<void> {
  const program = programs[name];
  const directory = programDirectory(name);
  const workDirectory = `${directory}.${process.pid}`;
  const output = join(workDirectory, 'bin');
  mkdirSync(output, { recursive: true });
  try {
    await writeModule(program, go, workDirectory);
    let compiled = 0;
    const paths = { workDirectory, output, onPackage: () => (compiled += 1) };
    const attempt = (): Promise<void> =>
      progress.slow(
        `building ${program.module} ${program.version}`,
        () => goBuild(program, go, paths),
        () => `, ${compiled} packages compiled`,
      );
    // What was compiled is kept by go: the module proxy may only have been busy.
    await attempt().catch((error: unknown) => {
      progress.say(`${error instanceof Error ? error.message : String(error)}\nonce more`);
      return attempt();
    });
    renameSync(output, directory);
  } finally {
    rmSync(workDirectory, { recursive: true, force: true });
  }
}

interface BuildPaths {
  readonly workDirectory: string;
  readonly output: string;
  readonly onPackage: () => void;
}

async function goBuild(program: GoProgram, go: GoToolchain, paths: BuildPaths): Promise<void> {
  const entries = Object.entries(program.binaries);
  const [[onlyName] = ['']] = entries;
  // One call for several: they share most packages. go names them by the ends of their paths.
  const target = entries.length === 1 ? join(paths.output, onlyName) : `${paths.output}/`;
  const isStatic = program.hasC === true ? ['-extldflags=-static'] : [];
  const linkerFlags = ['-s', '-w', ...isStatic, ...(program.ldflags ?? [])].join(' ');
  const buildFlags = [
    ...['-mod=mod', '-buildvcs=false', '-trimpath', '-v'],
    ...['-ldflags', linkerFlags],
  ];
  const packages = entries.map(([, path]) => path);
  const command = [go.command, 'build', ...buildFlags, '-o', target, ...packages];
  const output: string[] = [];
  const options = {
    cwd: paths.workDirectory,
    env: { ...go.env, CGO_ENABLED: program.hasC === true ? '1' : '0' },
    timeoutMs: buildTimeoutMs,
    onLine: (line: string) => {
      if (!line.startsWith('go: downloading')) paths.onPackage();
      output.push(line);
    },
  };
  // go says on stderr what it compiles
  const child = startProcess(
    'nice',
    ['-n', '10', 'sh', '-c', 'exec "$@" 2>&1', 'sh', ...command],
    options,
  );
  const { status } = await child.exited;
  if (status === 0) return;
  throw new Error(`${program.module}: go build failed:\n${output.slice(-errorLines).join('\n')}`);
}

/** A module of its own that requires the program's; go fills in the rest, which the pinned version decides. */
async function writeModule(program: GoProgram, go: GoToolchain, directory: string): Promise<void> {
  const lines = ['module tandem.local/bed', '', 'go 1.26.0', ''];
  const required = { [program.module]: program.version, ...program.requires };
  for (const [module, version] of Object.entries(required))
    lines.push(`require ${module} ${version}`);
  if (program.hasStagedModules === true) {
    const { GoMod } = await download(go, program.module, program.version);
    const staged = readFileSync(GoMod, 'utf8').matchAll(/^\t(k8s\.io\/\S+) v0\.0\.0$/gm);
    const stagedVersion = program.version.replace(/^v1/, 'v0');
    for (const [, module] of staged) lines.push(`replace ${module} => ${module} ${stagedVersion}`);
  }
  for (const [module, version] of Object.entries(program.replaced ?? {})) {
    lines.push(`replace ${module} => ${module} ${version}`);
  }
  if (program.edited !== undefined) {
    const { Dir } = await download(go, program.module, program.version);
    await writeEdited(Dir, program.edited, join(directory, editedName));
    lines.push(`replace ${program.module} => ./${editedName}`);
  }
  writeFileSync(join(directory, 'go.mod'), `${lines.join('\n')}\n`);
  if (program.mainFile !== undefined) copyFileSync(program.mainFile, join(directory, 'main.go'));
}

const editedName = 'edited';

/**
 * A copy of the module with the change, for go refuses an overlay of a file of the module cache.
 * @throws Error: a text is not there once
 */
async function writeEdited(
  moduleDirectory: string,
  { file, replaced, added }: Edited,
  directory: string,
): Promise<void> {
  const original = join(moduleDirectory, file);
  let text = readFileSync(original, 'utf8');
  for (const [from, to] of replaced) {
    if (text.split(from).length !== 2) throw new Error(`${original} has not one ${from}`);
    text = text.replace(from, to);
  }
  await run('cp', ['-r', '--no-preserve=mode', moduleDirectory, directory]);
  writeFileSync(join(directory, file), text + added);
}

interface Downloaded {
  readonly Dir: string;
  readonly GoMod: string;
}

async function download(go: GoToolchain, module: string, version: string): Promise<Downloaded> {
  const args = ['mod', 'download', '-json', `${module}@${version}`];
  const { stdout } = await run(go.command, args, { env: go.env, timeoutMs: downloadTimeoutMs });
  return JSON.parse(stdout) as Downloaded;
}
