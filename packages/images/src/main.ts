// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `./run images`: the images as archives, which `ctr -n k8s.io images import` and `skopeo copy oci-archive:` take. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { listOption, stringOption } from '@tandem/runtime/config-option';
import { optional, runTool, type ToolSpec } from '@tandem/runtime/tool';
import { mergeArchives } from './merge.ts';
import { imageArchive, machineArchitecture } from './oci.ts';
import { productImages, productLayers, productVersion } from './product-images.ts';
import { sbomOf } from './sbom.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const names = ['agent', 'dns-proxy'] as const;

interface Options {
  readonly output: string;
  readonly tag: string;
  readonly arch: string | null;
  readonly merge: readonly string[];
}

const tool: ToolSpec<Options> = {
  program: './run images',
  description:
    "Writes the images of agent and DNS proxy as OCI archives, agent.tar and dns-proxy.tar, each with what is in it (CycloneDX) beside it. The same checkout gives the same octets on one machine; Node.js, nft, iptables and their libraries are this machine's.",
  options: {
    output: {
      ...stringOption({
        placeholder: 'DIR',
        description: 'where to',
        default: join(root, '.tools/images'),
      }),
      format: () => '.tools/images',
    },
    tag: stringOption({
      ...{ placeholder: 'TAG', default: productVersion(root) },
      description: 'of the images; without it the version',
    }),
    arch: optional(
      stringOption({
        placeholder: 'ARCH',
        description:
          'fails where this machine is of another architecture (amd64, arm64): images are built on one of their own',
      }),
    ),
    merge: listOption(
      stringOption({
        placeholder: 'DIR',
        description:
          'builds nothing: makes one image of several architectures, as OCI layout directories agent and dns-proxy, from what was written to these directories on machines of each (given for each one); their digests are printed',
      }),
      { default: [] },
    ),
  },
};

async function main({ output, tag, arch, merge }: Options): Promise<number> {
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
  if (arch !== null && arch !== architecture) {
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

process.exitCode = await runTool(tool, main);
