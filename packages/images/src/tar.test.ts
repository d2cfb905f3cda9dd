// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { lstatSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { imageArchive, layerOf } from './oci.ts';
import { directoryAt, type TarFile, tarOf } from './tar.ts';

const directory = mkdtempSync(join(tmpdir(), 'tandem-tar-'));
after(() => rmSync(directory, { recursive: true }));

const long = `opt/${'deep/'.repeat(30)}file-with-a-long-name.js`;
const files: readonly TarFile[] = [
  { path: 'bin/program', mode: 0o755, content: Buffer.from('#!/bin/sh\n') },
  { path: long, mode: 0o644, content: Buffer.alloc(1000, 'x') },
  { path: 'etc/empty', mode: 0o600, content: Buffer.alloc(0) },
  { path: 'etc/link', mode: 0o777, content: Buffer.alloc(0), link: '../bin/program' },
  directoryAt('tmp', 0o1777),
];

test('tar reads what was written, long paths and links included', () => {
  execFileSync('tar', ['-x', '-p', '-C', directory], { input: tarOf(files) });
  for (const { path, mode, content, link } of files) {
    const at = join(directory, path);
    const stats = lstatSync(at);
    if (link !== undefined) assert.equal(readlinkSync(at), link);
    else if (content !== null) assert.deepEqual(readFileSync(at), Buffer.from(content));
    if (link === undefined) assert.equal(stats.mode & 0o7777, mode, path);
    assert.deepEqual([stats.uid, stats.gid, stats.mtimeMs], [0, 0, 0], path);
  }
});

test('an archive depends on what is in it, not on its order', () => {
  assert.deepEqual(tarOf(files), tarOf([...files].reverse()));
  assert.throws(() => tarOf([...files, files[0] as TarFile]), /comes twice/);
});

test('a capability is the extended attribute that the kernel reads', () => {
  // Version 2, effective, permitted CAP_NET_RAW.
  const capability = Buffer.from('010000020020000000000000000000000000000000', 'hex').subarray(
    0,
    20,
  );
  const archive = tarOf([{ path: 'launch', mode: 0o755, content: Buffer.from('x'), capability }]);
  execFileSync('tar', ['-x', '--xattrs', '--xattrs-include=*', '-C', directory], {
    input: archive,
  });
  const python =
    'import os,sys; sys.stdout.write(os.getxattr(sys.argv[1],"security.capability").hex())';
  const read = execFileSync('python3', ['-c', python, join(directory, 'launch')]).toString();
  assert.equal(read, capability.toString('hex'));
});

test('an image is an OCI layout whose digests are those of its blobs', () => {
  const layer = layerOf(files);
  const archive = imageArchive({
    names: ['localhost/tandem/test:1', 'localhost/tandem/test:latest'],
    layers: [layer],
    entrypoint: ['/bin/program'],
    user: '65532:65532',
  });
  const at = mkdtempSync(join(directory, 'oci-'));
  execFileSync('tar', ['-x', '-C', at], { input: archive });
  const sums = execFileSync('sh', ['-c', 'cd blobs/sha256 && sha256sum *'], { cwd: at }).toString();
  for (const line of sums.trim().split('\n')) {
    const [sum, name] = line.split(/\s+/);
    assert.equal(sum, name);
  }
  const index = JSON.parse(readFileSync(join(at, 'index.json'), 'utf8')) as {
    readonly manifests: readonly { readonly annotations: Readonly<Record<string, string>> }[];
  };
  assert.deepEqual(
    index.manifests.map(({ annotations }) => annotations['io.containerd.image.name']),
    ['localhost/tandem/test:1', 'localhost/tandem/test:latest'],
  );
});
