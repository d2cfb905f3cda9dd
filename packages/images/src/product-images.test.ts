// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The images as a container runtime unpacks them, with nothing of this machine below the programs. Needs a built checkout and root. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { proxyUid } from './base-layer.ts';
import { productFiles } from './bundle.ts';
import { imageArchive } from './oci.ts';
import { type ProductImage, productImages, productLayers } from './product-images.ts';
import { tarOf } from './tar.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'tandem-images-'));
after(() => rmSync(directory, { recursive: true }));

let images: ReturnType<typeof productImages>;
/** Files of this checkout, made once: a bundle takes seconds of CPU time. */
let files: Awaited<ReturnType<typeof productFiles>>;
const unpacked = join(directory, 'unpacked');
before(async () => {
  images = productImages(await productLayers(root), 'test');
  files = await productFiles(root);
  mkdirSync(unpacked);
  for (const { blob } of images.agent.layers) {
    const attributes = ['--xattrs', '--xattrs-include=*'];
    execFileSync('tar', ['-x', '-z', '-p', ...attributes, '-C', unpacked], { input: blob });
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
  assert.ok(tarOf(await productFiles(copy)).equals(tarOf(files)));
});

test('the archive of an image names no directory of the machine that built it', () => {
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

const launchable = ['NET_RAW', 'BPF', 'NET_ADMIN'] as const;
for (const [what, given, kept] of [
  ['what the chart adds', ['NET_RAW', 'BPF'], ['NET_RAW', 'BPF']],
  ['NET_ADMIN too', launchable, launchable],
  ['nothing that is not its business', [...launchable, 'CHOWN'], launchable],
] as const) {
  test(`the launcher gives the DNS proxy ${what}: ambient, and without AT_SECURE`, () => {
    const { sets, isSecure } = launched(given);
    const set = kept.reduce((bits, name) => bits | (1n << BigInt(capabilityNumbers[name])), 0n);
    const text = set.toString(16).padStart(16, '0');
    for (const name of ['CapEff', 'CapPrm', 'CapInh', 'CapAmb']) {
      assert.equal(sets.get(name), text, name);
    }
    assert.equal(sets.get('NoNewPrivs'), '1');
    assert.equal(isSecure, false);
  });
}

test('the launcher names the capability that a container lacks', () => {
  assert.throws(() => launched(['NET_RAW']), /no CAP_BPF: .*capabilities\.add/);
  assert.throws(() => launched(['BPF']), /no CAP_NET_RAW/);
});

for (const program of [
  ...['/bin/node', '/usr/sbin/nft', '/usr/sbin/iptables-nft-save'],
  ...['/usr/sbin/iptables-legacy-save', '/usr/sbin/ip6tables-nft-save'],
]) {
  test(`${program} finds its libraries in the image`, () => {
    assert.match(run([program], 0, ['--version'], {}), /v\d+\.\d+/);
  });
}

/** Source: include/uapi/linux/capability.h, include/uapi/linux/auxvec.h. */
const capabilityNumbers = { CHOWN: 0, NET_ADMIN: 12, NET_RAW: 13, BPF: 39 } as const;
const auxiliarySecure = 23n;

/** As a container runtime does: no ambient capabilities, a bounding set, no_new_privs. What the launched Node.js is then. */
function launched(given: readonly string[]): {
  readonly sets: ReadonlyMap<string, string>;
  readonly isSecure: boolean;
} {
  const names = given.map((name) => `+${name.toLowerCase()}`).join(',');
  const identity = [`--reuid=${proxyUid}`, `--regid=${proxyUid}`, '--clear-groups', '--nnp'];
  const program = `const { readFileSync } = require('node:fs');
process.stdout.write(JSON.stringify([readFileSync('/proc/self/status', 'utf8'), readFileSync('/proc/self/auxv').toString('hex')]));`;
  const command = [join(unpacked, 'opt/tandem/bin/tandem-launch'), process.execPath, '-e', program];
  const bounds = `--bounding-set=-all,${names}`;
  const { status, stdout, stderr } = spawnSync('setpriv', [...identity, bounds, ...command], {
    encoding: 'utf8',
  });
  assert.equal(status, 0, stderr);
  const [text, auxiliary] = JSON.parse(stdout) as readonly [string, string];
  const words = new BigUint64Array(new Uint8Array(Buffer.from(auxiliary, 'hex')).buffer);
  return {
    sets: new Map(
      [...text.matchAll(/^(\w+):\s+(\S+)/gm)].map(([, name = '', value = '']) => [name, value]),
    ),
    isSecure: words.some(
      (word, at) => at % 2 === 0 && word === auxiliarySecure && words[at + 1] !== 0n,
    ),
  };
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
