// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The images as a container runtime unpacks them, with nothing of this machine below the programs. Needs a built checkout and root. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { productFiles } from './bundle.ts';
import { imageArchive } from './oci.ts';
import { type ProductImage, productImages, proxyUid } from './product-images.ts';
import { tarOf } from './tar.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'tandem-images-'));
after(() => rmSync(directory, { recursive: true }));

let images: Awaited<ReturnType<typeof productImages>>;
const unpacked = join(directory, 'unpacked');
before(async () => {
  images = await productImages(root, 'test');
  mkdirSync(unpacked);
  for (const { blob } of images.agent.layers) {
    execFileSync('tar', ['-x', '-z', '-p', '-C', unpacked], { input: blob });
  }
});

test('a checkout in another directory, with other times, gives the same octets', async () => {
  const copy = join(directory, 'copy');
  for (const name of readdirSync(join(root, 'packages'))) {
    for (const part of ['dist', 'build', 'node_modules', 'package.json']) {
      copyIfThere(join('packages', name, part), copy);
    }
  }
  copyIfThere('bpf/build', copy);
  copyIfThere('package.json', copy);
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  const [there, here] = [tarOf(await productFiles(copy)), tarOf(await productFiles(root))];
  assert.ok(there.equals(here));
});

test('the archive of an image names no directory of the machine that built it', async () => {
  const files = await productFiles(root);
  const found = files.filter(({ content }) => Buffer.from(content ?? []).includes(root));
  assert.deepEqual(
    found.map(({ path }) => path),
    [],
  );
});

test('both images have the same layers, so that a node keeps them once', () => {
  assert.deepEqual(
    images.agent.layers.map(({ diffId }) => diffId),
    images['dns-proxy'].layers.map(({ diffId }) => diffId),
  );
  assert.ok(imageArchive(images.agent).equals(imageArchive(images.agent)));
});

for (const [name, uid] of [
  ['agent', 0],
  ['dns-proxy', 0],
  ['dns-proxy', proxyUid],
] as const satisfies readonly (readonly [ProductImage, number])[]) {
  test(`the entry point of ${name} starts as uid ${uid} with what is in the image alone`, () => {
    assert.match(run(images[name].entrypoint, uid, ['--help'], environmentOf(name)), /usage/i);
  });
}

for (const program of [
  ...['/bin/node', '/usr/sbin/nft', '/usr/sbin/iptables-nft-save'],
  ...['/usr/sbin/iptables-legacy-save', '/usr/sbin/ip6tables-nft-save'],
]) {
  test(`${program} finds its libraries in the image`, () => {
    assert.match(run([program], 0, ['--version'], {}), /v\d+\.\d+/);
  });
}

function run(
  command: readonly string[],
  uid: number,
  rest: readonly string[],
  env: Readonly<Record<string, string>>,
): string {
  const options = [`--userspec=${uid}:${uid}`, unpacked, ...command, ...rest];
  return execFileSync('/usr/sbin/chroot', options, { encoding: 'utf8', env });
}

function environmentOf(name: ProductImage): Readonly<Record<string, string>> {
  return images[name].environment ?? {};
}

function copyIfThere(path: string, to: string): void {
  try {
    cpSync(join(root, path), join(to, path), { recursive: true, verbatimSymlinks: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
