// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The layer below the product: Node.js, nft, iptables, and the libraries of these and of the addons. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PackageRoot } from './package-root.ts';
import { directoryAt, type TarFile } from './tar.ts';

export const proxyUid = 65_532;

/** Node.js as the npm package has it, unpacked. */
export interface NodeProgram {
  readonly path: string;
  /** Directory of its headers. */
  readonly headers: string;
  readonly name: string;
  readonly version: string;
  readonly licence: string;
}

/** `archive`: the npm package; unpacks into `directory`. */
export function unpackNode(archive: string, directory: string): NodeProgram {
  mkdirSync(directory, { recursive: true });
  const members = ['package/bin/node', 'package/include', 'package/package.json'];
  execFileSync('tar', ['-x', '-z', '-f', archive, '-C', directory, ...members]);
  const manifest = JSON.parse(readFileSync(join(directory, 'package/package.json'), 'utf8')) as {
    readonly name: string;
    readonly version: string;
    readonly license?: string;
  };
  return {
    path: join(directory, 'package/bin/node'),
    headers: join(directory, 'package/include/node'),
    name: manifest.name,
    version: manifest.version,
    licence: manifest.license ?? '',
  };
}

export interface BaseOptions {
  readonly packages: PackageRoot;
  readonly node: NodeProgram;
  /** Program of binutils for the architecture of the image. */
  readonly strip: string;
  /** Paths of the addons that Node.js loads. */
  readonly addons: readonly string[];
}

export function baseFiles({ packages, node, strip, addons }: BaseOptions): readonly TarFile[] {
  const files = [
    ...systemFiles(),
    nodeFile(node, strip),
    ...[node.path, ...addons].flatMap((each) => packages.librariesOf(each)),
    ...packages.program('usr/sbin/nft'),
    ...iptablesFiles(packages),
  ];
  // Several programs load one library.
  return [...new Map(files.map((each) => [each.path, each])).values()];
}

/** Symbols are left out: they are half of the program. */
function nodeFile({ path, name, version, licence }: NodeProgram, strip: string): TarFile {
  const stripped = `${path}.stripped`;
  execFileSync(strip, ['-o', stripped, path]);
  const origin = { kind: 'npm', name, version, licence } as const;
  return { path: 'bin/node', mode: 0o755, content: readFileSync(stripped), origin };
}

/** The agent reads which bits of the mark the rules of other programs use, in both variants of iptables. */
function iptablesFiles(packages: PackageRoot): readonly TarFile[] {
  const extensions = `usr/lib/${packages.triplet}/xtables`;
  const link = (name: string, target: string): TarFile => ({
    path: `usr/sbin/${name}`,
    mode: 0o777,
    content: Buffer.alloc(0),
    link: target,
  });
  return [
    ...packages.program('usr/sbin/xtables-nft-multi'),
    ...packages.program('usr/sbin/xtables-legacy-multi'),
    ...['iptables', 'ip6tables'].flatMap((name) => [
      link(`${name}-save`, 'xtables-nft-multi'),
      link(`${name}-nft-save`, 'xtables-nft-multi'),
      link(`${name}-legacy-save`, 'xtables-legacy-multi'),
    ]),
    ...packages
      .namesIn(extensions)
      .filter((name) => /^lib(xt|ipt|ip6t)_/.test(name))
      .map((name) => packages.file(join(extensions, name), 0o644)),
  ];
}

function systemFiles(): readonly TarFile[] {
  const text = (path: string, content: string): TarFile => ({
    path,
    mode: 0o644,
    content: Buffer.from(content),
  });
  return [
    text(
      'etc/passwd',
      `root:x:0:0:root:/:/bin/node\ntandem:x:${proxyUid}:${proxyUid}::/:/bin/node\n`,
    ),
    text('etc/group', `root:x:0:\ntandem:x:${proxyUid}:\n`),
    directoryAt('tmp', 0o1777),
    directoryAt('run'),
    directoryAt('var/lib'),
  ];
}
