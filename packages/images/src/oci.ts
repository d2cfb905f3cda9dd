// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** An OCI image layout (image-spec 1.1) as one archive, which container runtimes import without a registry. */

import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { machineArchitecture } from './machine.ts';
import { type TarFile, tarOf } from './tar.ts';

export interface Image {
  /** Fully qualified, with a tag, such as localhost/tandem/agent:0.1.0. */
  readonly names: readonly [string, ...string[]];
  /** From the bottom. */
  readonly layers: readonly Layer[];
  readonly entrypoint: readonly string[];
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** uid:gid; default: root. */
  readonly user?: string;
  /** As OCI names it; default: this machine's. */
  readonly architecture?: string;
}

/** Made once, used by several images. */
export interface Layer {
  readonly blob: Buffer;
  /** Digest of the archive before it was compressed. */
  readonly diffId: string;
}

export function layerOf(files: readonly TarFile[]): Layer {
  const archive = tarOf(files);
  return { blob: gzipSync(archive, { level: 6 }), diffId: digestOf(archive) };
}

export function imageArchive(image: Image): Buffer {
  const { names, layers, entrypoint, command, environment = {}, user } = image;
  const { architecture = machineArchitecture() } = image;
  const blobs = new Map<string, Buffer>();
  const put = (blob: Buffer): { readonly digest: string; readonly size: number } => {
    const digest = digestOf(blob);
    blobs.set(digest, blob);
    return { digest, size: blob.length };
  };
  const config = {
    architecture,
    os: 'linux',
    created: '1970-01-01T00:00:00Z',
    config: {
      Entrypoint: entrypoint,
      Env: Object.entries(environment).map(([key, value]) => `${key}=${value}`),
      WorkingDir: '/',
      ...(command === undefined ? {} : { Cmd: command }),
      ...(user === undefined ? {} : { User: user }),
    },
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    history: layers.map(() => ({ created: '1970-01-01T00:00:00Z', created_by: 'tandem' })),
  };
  const manifest = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...put(json(config)) },
    layers: layers.map(({ blob }) => ({
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      ...put(blob),
    })),
  };
  const described = {
    mediaType: manifest.mediaType,
    ...put(json(manifest)),
    platform: { architecture, os: 'linux' },
  };
  const index = {
    schemaVersion: 2,
    manifests: names.map((name) => ({ ...described, annotations: namedAs(name) })),
  };
  return tarOf([
    file('oci-layout', json({ imageLayoutVersion: '1.0.0' })),
    file('index.json', json(index)),
    ...[...blobs].map(([digest, blob]) => file(`blobs/${digest.replace(':', '/')}`, blob)),
  ]);
}

/** Annotations of a descriptor in index.json, by which runtimes and tools find it by its name or tag. */
export function namedAs(name: string): Readonly<Record<string, string>> {
  return {
    'io.containerd.image.name': name,
    'org.opencontainers.image.ref.name': name.slice(name.lastIndexOf(':') + 1),
  };
}

function file(path: string, content: Buffer): TarFile {
  return { path, mode: 0o644, content };
}

export function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
