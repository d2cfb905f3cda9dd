// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The images that a cluster needs before any of ours: made here, for there is no registry. */

import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Image, imageArchive, layerOf } from '@tandem/images/oci';
import { directoryAt, type TarFile } from '@tandem/images/tar';
import { run } from '@tandem/testing/process';
import { cacheDirectory } from './layout.ts';
import {
  agnhostVersion,
  binary,
  corednsVersion,
  kubernetesVersion,
  moduleSources,
  programDirectory,
} from './programs.ts';
import type { Progress } from './progress.ts';

const pauseVersion = '3.10.2';
export const pauseImage: string = `registry.k8s.io/pause:${pauseVersion}`;
const agnhostImageOf = (version: string): string =>
  `registry.k8s.io/e2e-test-images/agnhost:${version}`;
export const agnhostImage: string = agnhostImageOf(agnhostVersion);
/** Version from which the conformance suite of the Network Policy API makes its pods. */
const agnhostOlderVersion = '2.45';
export const corednsImage: string = `registry.k8s.io/coredns/coredns:${corednsVersion}`;

const imagesDirectory = join(cacheDirectory, 'images');
const compileTimeoutMs = 60_000;

/** Archives of all, made if the cache does not have them. Programs must be built. */
export async function baseImages(progress: Progress): Promise<readonly string[]> {
  mkdirSync(imagesDirectory, { recursive: true });
  return [
    await make(`pause-${kubernetesVersion}`, pause, progress),
    await make(`coredns-${corednsVersion}`, coredns, progress),
    await make(`${basename(programDirectory('agnhost'))}-${kubernetesVersion}`, agnhost, progress),
  ];
}

async function make(
  name: string,
  spec: () => Image | Promise<Image>,
  progress: Progress,
): Promise<string> {
  const path = join(imagesDirectory, `${name}.tar`);
  if (existsSync(path)) return path;
  const image = await spec();
  writeFileSync(`${path}.${process.pid}`, imageArchive(image));
  renameSync(`${path}.${process.pid}`, path);
  progress.say(`image ${image.names[0]}`);
  return path;
}

const program = (from: string, path: string): TarFile => ({
  path,
  mode: 0o755,
  content: readFileSync(from),
});

/** From Kubernetes' own source, which its module has. */
async function pause(): Promise<Image> {
  const source = join(await moduleSources('kubernetes'), 'build/pause/linux/pause.c');
  const output = join(imagesDirectory, `pause.${process.pid}`);
  const flags = ['-Os', '-static', '-s', `-DVERSION=${pauseVersion}`];
  await run('gcc', [...flags, '-o', output, source], { timeoutMs: compileTimeoutMs });
  const path = join(imagesDirectory, 'pause');
  renameSync(output, path);
  return {
    names: [pauseImage],
    layers: [layerOf([program(path, 'pause')])],
    entrypoint: ['/pause'],
  };
}

function coredns(): Image {
  return {
    names: [corednsImage],
    layers: [layerOf([program(binary('coredns'), 'coredns'), directoryAt('tmp', 0o1777)])],
    entrypoint: ['/coredns'],
  };
}

/** Suites start programs by bash, which is busybox here: it has no applet of this name. */
const bash = `#!/bin/sh
exec /bin/sh "$@"
`;

const applets = [
  ...['sh', 'env', 'grep', 'cut', 'cat', 'ls', 'sleep', 'nslookup', 'wget', 'nc', 'ip'],
];

function agnhost(): Image {
  const files: TarFile[] = [
    program(binary('agnhost'), 'agnhost'),
    program(binary('kubernetes', 'agnhost'), 'agnhost-of-kubernetes'),
    program('/usr/bin/busybox', 'bin/busybox'),
    ...applets.map((name) => ({
      path: `bin/${name}`,
      mode: 0o777,
      content: new Uint8Array(),
      link: 'busybox',
    })),
    { path: 'bin/bash', mode: 0o755, content: Buffer.from(bash) },
    directoryAt('tmp', 0o1777),
  ];
  return {
    names: [agnhostImage, agnhostImageOf(agnhostOlderVersion)],
    layers: [layerOf(files)],
    entrypoint: ['/agnhost'],
    command: ['pause'],
    environment: { PATH: '/bin' },
  };
}
