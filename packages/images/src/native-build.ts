// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The programs and addons in C and the eBPF object, built into a directory of this build: for another architecture by Debian's cross
 * compiler, and for a locked build, which takes nothing that an earlier compiler left in the checkout.
 */

import { execFileSync } from 'node:child_process';
import { dirname } from 'node:path';
import { type BuiltIn, sourceOf } from './bundle.ts';
import { staticPackage } from './inputs.ts';
import type { Architecture } from './lock.ts';
import { installedOrigin, type PackageRoot, triplets } from './package-root.ts';
import type { DebianOrigin } from './tar.ts';

export interface NativeOptions {
  readonly architecture: Architecture;
  /** Compiler of the eBPF object; null: the one that its Makefile finds. */
  readonly clang: string | null;
  /** Needed for another architecture than this machine's; null: this machine's. */
  readonly cross: Cross | null;
  /** Where to. */
  readonly builtIn: BuiltIn;
}

interface Cross {
  /** Packages of the image and the static C library. */
  readonly packages: PackageRoot;
  /** Directory of the headers of Node.js, libuv's included. */
  readonly nodeHeaders: string;
}

/** Program of binutils or gcc for an architecture. */
export function crossTool(name: string, architecture: Architecture, machine: Architecture): string {
  return architecture === machine ? name : `${triplets[architecture]}-${name}`;
}

/** `root`: directory of the checkout. */
export function nativeBuild(root: string, options: NativeOptions): void {
  const { architecture, clang, cross, builtIn } = options;
  const compiler = `${triplets[architecture]}-gcc`;
  // Compilers and flags are in the commands alone: the Makefiles take both from an environment too.
  const env = { PATH: process.env['PATH'], LC_ALL: 'C' };
  const make = (name: string, variables: readonly string[]): void => {
    const build = [`BUILD=${builtIn(name)}`, ...variables];
    execFileSync('make', ['-s', '-C', sourceOf(root, name), ...build], {
      stdio: ['ignore', 'inherit', 'inherit'],
      env,
    });
  };
  const { programs, addons, loader } = cross === null ? same(compiler) : others(compiler, cross);
  for (const name of ['cni-gate', 'pod-programs']) make(name, programs);
  make('bpf-loader-node', [...addons, ...loader]);
  make('dns-sockets', addons);
  make('bpf', clang === null ? [] : [`CLANG=${clang}`]);
}

/** Variables of make. */
interface Variables {
  readonly programs: readonly string[];
  readonly addons: readonly string[];
  readonly loader: readonly string[];
}

function staticLibraryOf({ triplet }: PackageRoot): string {
  return `usr/lib/${triplet}/libc.a`;
}

/** Package of the C library that static programs have. `packages`: null where this machine's compiler builds them. */
export function linkedLibrary(
  packages: PackageRoot | null,
  architecture: Architecture,
): DebianOrigin {
  return packages === null
    ? installedOrigin(staticPackage, architecture)
    : packages.originOf(staticLibraryOf(packages));
}

function same(compiler: string): Variables {
  return { programs: [`CC=${compiler}`], addons: [`CC=${compiler}`], loader: [] };
}

function others(compiler: string, { packages, nodeHeaders }: Cross): Variables {
  // The C library of Debian's cross compiler is older than Debian's.
  const staticLibrary = dirname(packages.pathOf(staticLibraryOf(packages)));
  // Debug information has the paths of headers, and these headers are somewhere else in each build.
  const mapped = `-ffile-prefix-map=${nodeHeaders}=/usr/include/node`;
  return {
    programs: [`CC=${compiler} -B${staticLibrary}/ -L${staticLibrary}`],
    addons: [`CC=${compiler} ${mapped}`, `UV_INCLUDE=${nodeHeaders}`],
    loader: [`LIBBPF=${packages.libraryPath('libbpf.so.1')}`],
  };
}
