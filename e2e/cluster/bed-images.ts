// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Images that the cluster needs beside the product's: the sandbox's, agnhost, CoreDNS. Made here, from what was built. */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Image, imageArchive, layerOf } from '@tandem/images/oci';
import { productImages, productVersion } from '@tandem/images/product-images';
import { directoryAt, type TarFile } from '@tandem/images/tar';
import { programPath } from './go-programs.ts';
import { imageDirectory, root } from './settings.ts';

const program = (path: string, at: string): TarFile => ({
  path: at,
  mode: 0o755,
  content: readFileSync(path),
});

/** Writes what is not there; the product's always, because it is what changes. */
export async function makeImages(): Promise<void> {
  mkdirSync(imageDirectory, { recursive: true });
  for (const [name, make] of Object.entries(bedImages)) {
    const path = join(imageDirectory, `${name}.tar`);
    if (!existsSync(path)) writeFileSync(path, imageArchive(make()));
  }
  for (const [name, image] of Object.entries(await productImages(root, productVersion(root)))) {
    writeFileSync(join(imageDirectory, `tandem-${name}.tar`), imageArchive(image));
  }
}

const bedImages: Readonly<Record<string, () => Image>> = {
  pause: () => ({
    names: ['registry.k8s.io/pause:3.10'],
    layers: [layerOf([{ path: 'pause', mode: 0o755, content: pauseProgram() }])],
    entrypoint: ['/pause'],
  }),
  agnhost: () => ({
    names: ['registry.k8s.io/e2e-test-images/agnhost:2.63.0'],
    layers: [
      layerOf([
        program(programPath('agnhost'), 'agnhost'),
        ...['sh', 'cat', 'sleep', 'nslookup', 'wget', 'nc'].map((applet) =>
          program('/usr/bin/busybox', `bin/${applet}`),
        ),
        directoryAt('tmp', 0o1777),
      ]),
    ],
    entrypoint: ['/agnhost'],
    command: ['pause'],
    environment: { PATH: '/bin' },
  }),
  coredns: () => ({
    names: ['registry.k8s.io/coredns/coredns:v1.15.0'],
    layers: [layerOf([program(programPath('coredns'), 'coredns'), directoryAt('tmp', 0o1777)])],
    entrypoint: ['/coredns'],
  }),
};

function pauseProgram(): Buffer {
  const directory = mkdtempSync(join(tmpdir(), 'tandem-pause-'));
  try {
    const source = fileURLToPath(new URL('native/pause.c', import.meta.url));
    const output = join(directory, 'pause');
    execFileSync('cc', [
      '-Os',
      '-static',
      '-s',
      '-Wall',
      '-Wextra',
      '-Werror',
      '-o',
      output,
      source,
    ]);
    return readFileSync(output);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
