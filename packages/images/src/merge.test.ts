// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { mergeArchives } from './merge.ts';
import { digestOf, imageArchive, layerOf } from './oci.ts';

const directory = mkdtempSync(join(tmpdir(), 'tandem-merge-test-'));
after(() => rmSync(directory, { recursive: true }));

const name = 'localhost/tandem/agent:1';
const shared = layerOf([{ path: 'etc/both', mode: 0o644, content: Buffer.from('both') }]);
function archiveOf(architecture: string): string {
  const own = layerOf([{ path: 'bin/it', mode: 0o755, content: Buffer.from(architecture) }]);
  const path = join(directory, `${architecture}.tar`);
  const image = { names: [name], layers: [shared, own], entrypoint: ['/bin/it'], architecture };
  writeFileSync(path, imageArchive({ ...image, names: [name] }));
  return path;
}

interface Described {
  readonly digest: string;
  readonly size: number;
  readonly mediaType: string;
  readonly platform?: { readonly architecture: string };
}

/** Checked as a registry does: the blob is there, of that size and digest. */
function blob(layout: string, { digest, size }: Described): Buffer {
  const path = join(layout, 'blobs', digest.replace(':', '/'));
  assert.equal(statSync(path).size, size);
  const content = readFileSync(path);
  assert.equal(digestOf(content), digest);
  return content;
}

test('an image of two architectures has both, each whole, and the same digest in whatever order they come', () => {
  const archives = ['amd64', 'arm64'].map(archiveOf);
  const [one, other] = ['one', 'other'].map((each) => join(directory, each));
  assert.ok(one !== undefined && other !== undefined);
  const digest = mergeArchives(archives, one, name);
  assert.equal(mergeArchives(archives.toReversed(), other, name), digest);
  const top = JSON.parse(readFileSync(join(one, 'index.json'), 'utf8')) as {
    readonly manifests: readonly Described[];
  };
  assert.deepEqual(
    top.manifests.map((each) => each.digest),
    [digest],
  );
  const [entry = assert.fail()] = top.manifests;
  const index = JSON.parse(blob(one, entry).toString()) as {
    readonly manifests: readonly Described[];
  };
  const seen = index.manifests.map((each) => {
    const manifest = JSON.parse(blob(one, each).toString()) as {
      readonly config: Described;
      readonly layers: readonly Described[];
    };
    for (const layer of manifest.layers) blob(one, layer);
    const config = JSON.parse(blob(one, manifest.config).toString()) as { architecture: string };
    assert.equal(config.architecture, each.platform?.architecture);
    return config.architecture;
  });
  assert.deepEqual(seen, ['amd64', 'arm64']);
});

test('two archives of one architecture are refused', () => {
  const archive = archiveOf('amd64');
  assert.throws(() => mergeArchives([archive, archive], join(directory, 'twice'), name), /amd64/);
});
