// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The product's programs, each in one file, with what cannot be in it beside: addons, the BPF programs, the CNI plugin,
 * and the libraries that are loaded only when they are needed.
 */

import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { type BuildResult, build } from 'esbuild';
import { fileCapability } from './file-capability.ts';
import type { DebianOrigin, Origin, TarFile } from './tar.ts';

/** Where all of it is in an image. */
export const productDirectory = 'opt/tandem';

/** Bundles by their place below `dist`: worker threads are found by paths from the file that starts them. */
const programs: Readonly<Record<string, string>> = {
  agent: 'packages/agent/dist/main.js',
  controller: 'packages/controller/dist/main.js',
  'dns-proxy': 'packages/dns-proxy/dist/main.js',
  tandem: 'packages/cli/dist/main.js',
  worker: 'packages/dns-proxy/dist/worker.js',
  'policy/compile-worker': 'packages/dns-proxy/dist/policy/compile-worker.js',
};
/** Loaded by name at run time. Not in the image: client-node reads kubeconfig files, and a pod has none. */
export const loadedLibraries: readonly string[] = ['yaml', 'prom-client'];
const absent = ['@kubernetes/client-node'];
/** Directory with a Makefile that builds the file, below `packages` or `bpf`. */
const built: Readonly<Record<string, string>> = {
  'build/bpf_loader.node': 'bpf-loader-node',
  'build/dns_sockets.node': 'dns-sockets',
  'bin/tandem-gate': 'cni-gate',
  'bin/tandem-launch': 'pod-programs',
  'bin/tandem-probe': 'pod-programs',
  'bpf/tandem.bpf.o': 'bpf',
};
export function sourceOf(root: string, name: string): string {
  return name === 'bpf' ? join(root, name) : join(root, 'packages', name);
}
/** Directory of the files that one of them built. */
export type BuiltIn = (name: string) => string;
export const builtInCheckout =
  (root: string): BuiltIn =>
  (name) =>
    join(sourceOf(root, name), 'build');
/** Capabilities that the launcher of the DNS proxy can have; the pod grants them. */
const capabilities: Readonly<Record<string, Uint8Array>> = {
  'bin/tandem-launch': fileCapability(['NET_ADMIN', 'NET_RAW', 'BPF']),
};

export interface BundleOptions {
  /** Bundles by their place below `directory`, without `.js`, and the built file that each begins with. */
  readonly entries: Readonly<Record<string, string>>;
  readonly directory: string;
  readonly isMinified: boolean;
}

/** Bundles the built files of the checkout `root`. Writes nothing. */
export async function bundles(
  root: string,
  { entries, directory, isMinified }: BundleOptions,
): Promise<BuildResult<{ write: false; metafile: true }>> {
  return build({
    entryPoints: Object.fromEntries(
      Object.entries(entries).map(([name, path]) => [name, join(root, path)]),
    ),
    outdir: directory,
    absWorkingDir: root,
    bundle: true,
    write: false,
    metafile: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    minify: isMinified,
    keepNames: true,
    legalComments: 'none',
    external: [...loadedLibraries, ...absent],
    // CommonJS libraries in an ES module ask for these.
    banner: {
      js: "import{createRequire as __createRequire}from'node:module';const require=__createRequire(import.meta.url);",
    },
    // The output depends on dist alone.
    tsconfigRaw: {},
    logLevel: 'error',
  });
}

export interface ProductOptions {
  /** Default: in the checkout. */
  readonly builtIn?: BuiltIn;
  /** Packages whose libraries are in the static programs. */
  readonly linked?: readonly DebianOrigin[];
}

export async function productFiles(
  root: string,
  { builtIn = builtInCheckout(root), linked = [] }: ProductOptions = {},
): Promise<readonly TarFile[]> {
  const { outputFiles, metafile } = await bundles(root, {
    entries: programs,
    directory: '/dist',
    isMinified: true,
  });
  const file = (path: string, content: Uint8Array, mode = 0o644): TarFile => ({
    path: join(productDirectory, path),
    mode,
    content,
  });
  return [
    ...outputFiles.map(({ path, contents }) => {
      const { inputs = {} } = metafile.outputs[relative(root, path)] ?? {};
      const directories = Object.entries(inputs)
        .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
        .map(([input]) => packageDirectory(join(root, input)));
      const origin: Origin = { kind: 'packages', directories: [...new Set(directories)] };
      return { ...file(join('dist', relative('/dist', path)), contents), origin };
    }),
    file('package.json', Buffer.from('{"type":"module"}')),
    ...Object.entries(built).map(([path, name]) => {
      const isProgram = path.startsWith('bin/');
      const capability = capabilities[path];
      const bytes = readFileSync(join(builtIn(name), basename(path)));
      return {
        ...file(path, bytes, isProgram ? 0o755 : 0o644),
        ...(isProgram ? { origin: { kind: 'linked', libraries: linked } as const } : {}),
        ...(capability === undefined ? {} : { capability }),
      };
    }),
    ...loadedLibraries.flatMap((name) =>
      libraryFiles(name, join(root, 'packages/runtime'), new Set()),
    ),
  ];
}

/** A library with those that it needs, flat below `node_modules`. */
function libraryFiles(name: string, from: string, seen: Set<string>): readonly TarFile[] {
  if (seen.has(name)) return [];
  seen.add(name);
  const directory = realpathSync(join(nearestModules(name, from), name));
  const { dependencies = {} } = JSON.parse(
    readFileSync(join(directory, 'package.json'), 'utf8'),
  ) as { readonly dependencies?: Readonly<Record<string, string>> };
  return [
    ...filesBelow(directory)
      .filter((path) => /\.(js|cjs|mjs|json)$|LICENSE/i.test(path) && !path.includes('browser/'))
      .map((path) => ({
        path: join(productDirectory, 'node_modules', name, relative(directory, path)),
        mode: 0o644,
        content: readFileSync(path),
        origin: { kind: 'packages', directories: [directory] } as const,
      })),
    ...Object.keys(dependencies).flatMap((each) => libraryFiles(each, directory, seen)),
  ];
}

/** The package that a file is of: the nearest directory above whose package.json has a name and a version. */
function packageDirectory(path: string): string {
  for (let at = dirname(path); at !== dirname(at); at = dirname(at)) {
    const manifest = join(at, 'package.json');
    if (!existsSync(manifest)) continue;
    const { name, version } = JSON.parse(readFileSync(manifest, 'utf8')) as PackageManifest;
    if (name !== undefined && version !== undefined) return at;
  }
  throw new Error(`${path} is of no package`);
}

interface PackageManifest {
  readonly name?: string;
  readonly version?: string;
}

function nearestModules(name: string, from: string): string {
  for (let at = from; ; at = dirname(at)) {
    const modules = join(at, 'node_modules');
    try {
      readdirSync(join(modules, name));
      return modules;
    } catch {
      if (at === dirname(at)) throw new Error(`${name} is not installed: run ./run setup`);
    }
  }
}

function filesBelow(directory: string): readonly string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return entry.name === 'node_modules' ? [] : filesBelow(path);
    return entry.isFile() ? [path] : [];
  });
}
