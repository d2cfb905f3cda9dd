// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `./run images`: the images as archives, which `ctr -n k8s.io images import` and `skopeo copy oci-archive:` take. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { mergeArchives } from './merge.ts';
import { imageArchive, machineArchitecture } from './oci.ts';
import { productImages, productLayers, productVersion } from './product-images.ts';
import { sbomOf } from './sbom.ts';

const usage = `usage: ./run images [--output DIR] [--tag TAG] [--arch ARCH]
       ./run images --merge DIR --merge DIR [--output DIR] [--tag TAG]

Writes the images of agent and DNS proxy as OCI archives, agent.tar and dns-proxy.tar, each with what is in it (CycloneDX) beside it.
The same checkout gives the same octets on one machine; Node.js, nft, iptables and their libraries are this machine's.

  --output DIR  where to; default .tools/images
  --tag TAG     default: the version
  --arch ARCH   fails where this machine is of another architecture (amd64, arm64): images are built on one of their own
  --merge DIR   builds nothing: makes one image of several architectures, as OCI layout directories agent and dns-proxy, from
                what was written to these directories on machines of each; their digests are printed
`;

const root = fileURLToPath(new URL('../../..', import.meta.url));
const names = ['agent', 'dns-proxy'] as const;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      output: { type: 'string', default: join(root, '.tools/images') },
      tag: { type: 'string', default: productVersion(root) },
      arch: { type: 'string' },
      merge: { type: 'string', multiple: true },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const { output, tag, arch, merge = [] } = values;
  if (merge.length > 0) {
    for (const name of names) {
      const archives = merge.map((directory) => join(directory, `${name}.tar`));
      const full = `localhost/tandem/${name}:${tag}`;
      const digest = mergeArchives(archives, join(output, name), full);
      process.stdout.write(`${full}  ${digest}\n`);
    }
    return 0;
  }
  const architecture = machineArchitecture();
  if (arch !== undefined && arch !== architecture) {
    throw new Error(
      `this machine is of ${architecture}: images of ${arch} are built on one of that`,
    );
  }
  mkdirSync(output, { recursive: true });
  const layers = await productLayers(root);
  for (const [name, image] of Object.entries(productImages(layers, tag))) {
    const archive = imageArchive(image);
    const path = join(output, `${name}.tar`);
    writeFileSync(path, archive);
    const version = productVersion(root);
    const files = layers.flat();
    const sbom = sbomOf({ name: `tandem/${name}`, version, architecture, files });
    writeFileSync(join(output, `${name}.cdx.json`), `${JSON.stringify(sbom, null, 1)}\n`);
    process.stdout.write(`${image.names[0]}  ${(archive.length / 1e6).toFixed(1)} MB  ${path}\n`);
  }
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`images: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
