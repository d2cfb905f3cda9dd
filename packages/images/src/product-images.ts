// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The images of agent and DNS proxy: one base layer with Node.js and what both need, and the product above it. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openArchive } from './archive.ts';
import { baseFiles, proxyUid, unpackNode } from './base-layer.ts';
import { type BuiltIn, builtInCheckout, productDirectory, productFiles } from './bundle.ts';
import { inputsFor, npmPack } from './inputs.ts';
import { type Architecture, type Lock, lockPath, parseLock, renewal } from './lock.ts';
import {
  inputCache,
  installedPackages,
  machineArchitecture,
  machineDistribution,
} from './machine.ts';
import { crossTool, linkedLibrary, nativeBuild } from './native-build.ts';
import { type Image, layerOf } from './oci.ts';
import { PackageRoot } from './package-root.ts';
import type { TarFile } from './tar.ts';
import { clangOf, type Machine, otherTools } from './tools.ts';

/** As the programs in packages/agent/bin and packages/dns-proxy/bin set them, with the reasons. */
const environment = {
  PATH: '/bin:/usr/sbin:/usr/bin',
  NODE_ENV: 'production',
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_THRESHOLD_: '32768',
  MALLOC_TRIM_THRESHOLD_: '131072',
};
const nodeFlags = [
  ...['--disable-sigusr1', '--expose-gc', '--v8-pool-size=1'],
  ...['--no-maglev', '--no-sparkplug', '--no-short-builtin-calls', '--max-semi-space-size=1'],
];

export type ProductImage = 'agent' | 'dns-proxy';

export interface LayersOptions {
  /** Default: this machine's. */
  readonly architecture?: Architecture;
  /** Refuse inputs and tools that the lock does not name. Default: take them, and say so. */
  readonly isLocked?: boolean;
  /** Default: that of the checkout. */
  readonly lock?: Lock;
}

/** Files of both images, layer by layer. `root`: directory of the built checkout. */
export async function productLayers(
  root: string,
  options: LayersOptions = {},
): Promise<readonly (readonly TarFile[])[]> {
  const machine = machineArchitecture();
  const { architecture = machine, isLocked = false } = options;
  const isCross = architecture !== machine;
  const { lock = parseLock(readFileSync(join(root, lockPath), 'utf8')) } = options;
  const distribution = machineDistribution();
  // Another distribution has other versions of all of them, and is reported itself.
  const others =
    lock.distribution === distribution ? otherTools(lock, architecture, machineTools()) : [];
  if (isLocked && others.length > 0) {
    throw new Error(
      `${others.join('\n')}\ninstall the versions of the lock, or renew it: ${renewal}`,
    );
  }
  for (const line of others) say(line);
  const scratch = mkdtempSync(join(tmpdir(), 'tandem-image-'));
  try {
    const inputs = inputsFor(lock, {
      ...{ architecture, isLocked, isCross, distribution, say },
      cache: inputCache(),
      open: openArchive,
      pack: npmPack,
    });
    const packages = new PackageRoot(inputs.packages, architecture, join(scratch, 'packages'));
    const node = unpackNode(inputs.node, join(scratch, 'node'));
    // What the checkout has may be of a compiler that was there before.
    const isBuiltHere = isCross || isLocked;
    const builtIn: BuiltIn = isBuiltHere
      ? (name) => join(scratch, 'built', name)
      : builtInCheckout(root);
    if (isBuiltHere) {
      const cross = isCross ? { packages, nodeHeaders: node.headers } : null;
      const clang = isLocked ? clangOf(lock, machine) : null;
      nativeBuild(root, { architecture, clang, cross, builtIn });
    }
    const addons = [
      join(builtIn('bpf-loader-node'), 'bpf_loader.node'),
      join(builtIn('dns-sockets'), 'dns_sockets.node'),
    ];
    const strip = crossTool('strip', architecture, machine);
    const linked = [linkedLibrary(isCross ? packages : null, architecture)];
    return [
      baseFiles({ packages, node, strip, addons }),
      await productFiles(root, { builtIn, linked }),
    ];
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

function machineTools(): Machine {
  return {
    architecture: machineArchitecture(),
    installed: installedPackages(),
    node: process.versions.node,
  };
}

function say(line: string): void {
  process.stderr.write(`images: ${line}\n`);
}

/** `files`: as `productLayers` gives them. */
export function productImages(
  files: readonly (readonly TarFile[])[],
  tag: string,
  architecture: Architecture = machineArchitecture(),
): Readonly<Record<ProductImage, Image>> {
  const layers = files.map(layerOf);
  const image = (name: ProductImage): Image => ({
    names: [`localhost/tandem/${name}:${tag}`],
    layers,
    architecture,
    ...(name === 'dns-proxy' ? { user: `${proxyUid}:${proxyUid}` } : {}),
    entrypoint: [
      ...(name === 'dns-proxy' ? [`/${productDirectory}/bin/tandem-launch`] : []),
      '/bin/node',
      ...nodeFlags,
      `/${productDirectory}/dist/${name}.js`,
    ],
    environment,
  });
  return { agent: image('agent'), 'dns-proxy': image('dns-proxy') };
}

/** Version of the product. */
export function productVersion(root: string): string {
  const { version } = JSON.parse(
    readFileSync(join(root, 'packages/agent/package.json'), 'utf8'),
  ) as {
    readonly version: string;
  };
  return version;
}
