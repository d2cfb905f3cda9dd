// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The programs and addons in C for an architecture that is not this machine's, by Debian's cross compiler. The eBPF object is
 * not among them: it is the same for all architectures.
 */

import { execFileSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import type { BuiltIn } from './bundle.ts';
import type { Architecture } from './lock.ts';
import { type PackageRoot, triplets } from './package-root.ts';

export interface CrossOptions {
  /** Packages of the image and the static C library. */
  readonly packages: PackageRoot;
  /** Directory of the headers of Node.js, libuv's included. */
  readonly nodeHeaders: string;
  /** Where to. */
  readonly builtIn: BuiltIn;
}

/** Program of binutils or gcc for an architecture. */
export function crossTool(name: string, architecture: Architecture, machine: Architecture): string {
  return architecture === machine ? name : `${triplets[architecture]}-${name}`;
}

/** `root`: directory of the checkout. */
export function crossBuild(root: string, options: CrossOptions): void {
  const { packages, nodeHeaders, builtIn } = options;
  const { triplet } = packages;
  const compiler = `${triplet}-gcc`;
  // The C library of Debian's cross compiler is older than Debian's.
  const staticLibrary = dirname(packages.pathOf(`usr/lib/${triplet}/libc.a`));
  const make = (name: string, ...variables: readonly string[]): void => {
    const directory = join(root, 'packages', name);
    execFileSync('make', ['-s', '-C', directory, `BUILD=${builtIn(name)}`, ...variables], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
  };
  for (const name of ['cni-gate', 'pod-programs']) {
    make(name, `CC=${compiler} -B${staticLibrary}/ -L${staticLibrary}`);
  }
  // Debug information has the paths of headers, and these headers are somewhere else in each build.
  const mapped = `-ffile-prefix-map=${nodeHeaders}=/usr/include/node`;
  const addon = [`CC=${compiler} ${mapped}`, `UV_INCLUDE=${nodeHeaders}`];
  make('bpf-loader-node', ...addon, `LIBBPF=${packages.libraryPath('libbpf.so.1')}`);
  make('dns-sockets', ...addon);
}
