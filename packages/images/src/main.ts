// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `./run images`: the images as archives, which `ctr -n k8s.io images import` and `skopeo copy oci-archive:` take. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { imageArchive } from './oci.ts';
import { productImages, productVersion } from './product-images.ts';

const usage = `usage: ./run images [--output DIR] [--tag TAG]

Writes the images of agent and DNS proxy as OCI archives. The same checkout gives the same octets on one machine;
Node.js, nft, iptables and their libraries are this machine's.

  --output DIR  where to; default .tools/images
  --tag TAG     default: the version
`;

const root = fileURLToPath(new URL('../../..', import.meta.url));

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      output: { type: 'string', default: join(root, '.tools/images') },
      tag: { type: 'string', default: productVersion(root) },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  mkdirSync(values.output, { recursive: true });
  for (const [name, image] of Object.entries(await productImages(root, values.tag))) {
    const archive = imageArchive(image);
    const path = join(values.output, `${name}.tar`);
    writeFileSync(path, archive);
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
