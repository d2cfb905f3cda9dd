// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The images of agent and DNS proxy: one base layer with Node.js and what both need, and the product above it. */

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { productDirectory, productFiles } from './bundle.ts';
import { type Image, layerOf } from './oci.ts';
import { librariesOf, programFiles, withoutCopies } from './programs.ts';
import { directoryAt, type TarFile } from './tar.ts';

export const proxyUid = 65_532;

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

/** Files of both images, layer by layer. `root`: directory of the built checkout. */
export async function productLayers(root: string): Promise<readonly (readonly TarFile[])[]> {
  return [withoutCopies([...systemFiles(), ...baseFiles(root)]), await productFiles(root)];
}

/** `files`: as `productLayers` gives them. */
export function productImages(
  files: readonly (readonly TarFile[])[],
  tag: string,
): Readonly<Record<ProductImage, Image>> {
  const layers = files.map(layerOf);
  const image = (name: ProductImage): Image => ({
    names: [`localhost/tandem/${name}:${tag}`],
    layers,
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

function baseFiles(root: string): readonly TarFile[] {
  return [
    ...programFiles(process.execPath, 'bin/node'),
    ...programFiles(which('nft'), 'usr/sbin/nft'),
    ...iptablesFiles(),
    ...['bpf-loader-node/build/bpf_loader', 'dns-sockets/build/dns_sockets'].flatMap((addon) =>
      librariesOf(join(root, `packages/${addon}.node`)),
    ),
  ];
}

/** The agent reads which bits of the mark the rules of other programs use, in both variants of iptables. */
function iptablesFiles(): readonly TarFile[] {
  const extensions = join(dirname(libraryPath('libxtables.so.12')), 'xtables');
  const programs = ['iptables-nft-save', 'iptables-legacy-save'].map((name) => which(name));
  const [nft = '', legacy = ''] = programs.map((path) => realpathSync(path));
  const link = (name: string, target: string): TarFile => ({
    path: `usr/sbin/${name}`,
    mode: 0o777,
    content: Buffer.alloc(0),
    link: target,
  });
  return [
    ...programFiles(nft, 'usr/sbin/xtables-nft-multi'),
    ...programFiles(legacy, 'usr/sbin/xtables-legacy-multi'),
    ...['iptables', 'ip6tables'].flatMap((name) => [
      link(`${name}-save`, 'xtables-nft-multi'),
      link(`${name}-nft-save`, 'xtables-nft-multi'),
      link(`${name}-legacy-save`, 'xtables-legacy-multi'),
    ]),
    ...readdirSync(extensions)
      .filter((name) => /^lib(xt|ipt|ip6t)_/.test(name))
      .map((name) => ({
        path: join(extensions, name).slice(1),
        mode: 0o644,
        content: readFileSync(join(extensions, name)),
        origin: { kind: 'machine', path: realpathSync(join(extensions, name)) } as const,
      })),
  ];
}

function libraryPath(name: string): string {
  const text = execFileSync('ldconfig', ['-p'], { encoding: 'utf8' });
  const path = text
    .split('\n')
    .find((line) => line.trim().startsWith(name))
    ?.split(' => ')[1];
  if (path === undefined) throw new Error(`${name} is not installed: install iptables`);
  return realpathSync(path.trim());
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

function which(program: string): string {
  return execFileSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).trim();
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
