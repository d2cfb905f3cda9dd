// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `./run images`: the images as archives, which `ctr -n k8s.io images import` and `skopeo copy oci-archive:` take. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { boolOption, listOption, stringOption } from '@tandem/runtime/config-option';
import { optional, runTool, type ToolSpec } from '@tandem/runtime/tool';
import { architectures, formatLock, lockPath } from './lock.ts';
import { machineArchitecture, machineDistribution } from './machine.ts';
import { mergeArchives } from './merge.ts';
import { imageArchive } from './oci.ts';
import { productImages, productLayers, productVersion } from './product-images.ts';
import { sbomOf } from './sbom.ts';
import { newLock } from './update-lock.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const names = ['agent', 'dns-proxy'] as const;

interface Options {
  readonly output: string;
  readonly tag: string;
  readonly arch: string | null;
  readonly locked: boolean;
  readonly updateLock: boolean;
  readonly merge: readonly string[];
}

const tool: ToolSpec<Options> = {
  program: './run images',
  description:
    'Writes the images of agent and DNS proxy as OCI archives, agent.tar and dns-proxy.tar, each with what is in it (CycloneDX) beside it. Node.js, nft, iptables and their libraries are those of packaging/images.lock, whose hashes are compared.',
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
          "of the images; without it this machine's. For another one the cross compiler of Debian is installed",
        pattern: { test: /^(amd64|arm64)$/, range: architectures.join(' or ') },
      }),
    ),
    locked: boolOption({
      description:
        'for a release: fails where Debian no longer has a package of packaging/images.lock, and where a compiler is of another version. Without it such a package is reported, and the newest one taken',
      default: false,
    }),
    updateLock: boolOption({
      description:
        'builds nothing: writes packaging/images.lock from what the registries have now. Commit it',
      default: false,
    }),
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

async function main({ output, tag, arch, locked, updateLock, merge }: Options): Promise<number> {
  if (merge.length > 0) {
    for (const name of names) {
      const archives = merge.map((directory) => join(directory, `${name}.tar`));
      const full = `localhost/tandem/${name}:${tag}`;
      const digest = mergeArchives(archives, join(output, name), full);
      process.stdout.write(`${full}  ${digest}\n`);
    }
    return 0;
  }
  if (updateLock) {
    const lock = newLock(root, (line) => process.stderr.write(`images: ${line}\n`));
    writeFileSync(join(root, lockPath), formatLock(lock));
    process.stdout.write(`${lockPath}: ${lock.inputs.length} inputs\n`);
    return 0;
  }
  const architecture = architectures.find((each) => each === arch) ?? machineArchitecture();
  mkdirSync(output, { recursive: true });
  const layers = await productLayers(root, { architecture, isLocked: locked });
  const distribution = machineDistribution();
  for (const [name, image] of Object.entries(productImages(layers, tag, architecture))) {
    const archive = imageArchive(image);
    const path = join(output, `${name}.tar`);
    writeFileSync(path, archive);
    const version = productVersion(root);
    const files = layers.flat();
    const sbom = sbomOf({
      ...{ name: `tandem/${name}`, version, architecture, distribution, files },
    });
    writeFileSync(join(output, `${name}.cdx.json`), `${JSON.stringify(sbom, null, 1)}\n`);
    process.stdout.write(`${image.names[0]}  ${(archive.length / 1e6).toFixed(1)} MB  ${path}\n`);
  }
  return 0;
}

process.exitCode = await runTool(tool, main);
