// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One image of several architectures, from an archive of each: an OCI layout as a directory, whose index.json has one image
 * index. Its digest depends on the archives alone, in whatever order they are given.
 */

import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { digestOf, json, namedAs } from './oci.ts';

const indexType = 'application/vnd.oci.image.index.v1+json';

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform: { readonly architecture: string; readonly os: string };
}

/** Gives the digest of the index. @throws Error: two archives of one architecture, or one that is no image's */
export function mergeArchives(archives: readonly string[], target: string, name: string): string {
  const scratch = mkdtempSync(join(tmpdir(), 'tandem-merge-'));
  try {
    mkdirSync(target, { recursive: true });
    const found = archives.map((archive, at) => {
      const directory = join(scratch, `${at}`);
      mkdirSync(directory);
      execFileSync('tar', ['-x', '-f', archive, '-C', directory]);
      cpSync(join(directory, 'blobs'), join(target, 'blobs'), { recursive: true });
      return manifestOf(directory, archive);
    });
    const manifests = found.toSorted((left, right) =>
      left.platform.architecture < right.platform.architecture ? -1 : 1,
    );
    const names = manifests.map(({ platform }) => platform.architecture);
    const twice = names.find((each, at) => names.indexOf(each) !== at);
    if (twice !== undefined) throw new Error(`two archives are of ${twice}`);
    const index = json({ schemaVersion: 2, mediaType: indexType, manifests });
    const digest = digestOf(index);
    writeFileSync(join(target, 'blobs', digest.replace(':', '/')), index);
    const descriptor = { mediaType: indexType, digest, size: index.length };
    const entry = { ...descriptor, annotations: namedAs(name) };
    writeFileSync(join(target, 'oci-layout'), json({ imageLayoutVersion: '1.0.0' }));
    writeFileSync(join(target, 'index.json'), json({ schemaVersion: 2, manifests: [entry] }));
    return digest;
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

function manifestOf(directory: string, archive: string): Descriptor {
  const { manifests } = JSON.parse(readFileSync(join(directory, 'index.json'), 'utf8')) as {
    readonly manifests: readonly Descriptor[];
  };
  const [first] = manifests;
  if (first?.platform === undefined) throw new Error(`${archive} has no image with a platform`);
  const { mediaType, digest, size, platform } = first;
  const { architecture, os } = platform;
  return { mediaType, digest, size, platform: { architecture, os } };
}
