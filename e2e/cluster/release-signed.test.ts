// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Signatures and attestations of a release, as the workflow makes them, in a registry of the test. With a key: the workflow has the
 * identity of its forge in its place, for which an OpenID provider, a certificate authority and a transparency log are needed.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { mergeArchives } from '@tandem/images/merge';
import { imageArchive, layerOf } from '@tandem/images/oci';
import { type RunResult, tryRun } from '@tandem/testing/process';
import { binary, buildPrograms } from './programs.ts';
import { Progress } from './progress.ts';
import { startRegistry } from './registry.ts';

const buildTimeoutMs = 3_600_000;
const directory = mkdtempSync(join(tmpdir(), 'tandem-signed-'));
after(() => rmSync(directory, { recursive: true }));
let registry: Awaited<ReturnType<typeof startRegistry>>;
let image = '';

/** `--use-signing-config=false` and `--tlog-upload=false`: no services of Sigstore. */
const offline = ['--use-signing-config=false', '--tlog-upload=false', '--yes'] as const;
const plain = ['--allow-http-registry', '--allow-insecure-registry'] as const;
const keyed = (key: 'key' | 'pub'): string => `--key=${join(directory, `cosign.${key}`)}`;
const cosign = (...args: readonly string[]): Promise<RunResult> =>
  tryRun(binary('cosign'), args, {
    cwd: directory,
    env: { ...process.env, COSIGN_PASSWORD: '', HOME: directory },
    timeoutMs: 60_000,
  });
async function done(...args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await cosign(...args);
  assert.equal(status, 0, `${args.join(' ')}: ${stderr}`);
  return stdout;
}

before(
  async () => {
    await buildPrograms(['registry', 'cosign'], new Progress());
    registry = await startRegistry(directory);
    const name = 'localhost/tandem/agent:1';
    const layers = [layerOf([{ path: 'etc/it', mode: 0o644, content: Buffer.from('it') }])];
    const archives = ['amd64', 'arm64'].map((architecture) => {
      const path = join(directory, `${architecture}.tar`);
      writeFileSync(
        path,
        imageArchive({ names: [name], layers, entrypoint: ['/it'], architecture }),
      );
      return path;
    });
    const digest = mergeArchives(archives, join(directory, 'merged'), name);
    const repository = `${registry.host}/team/tandem/agent`;
    const copied = await tryRun('skopeo', [
      ...['copy', '--dest-tls-verify=false', '--all', '--preserve-digests'],
      ...[`oci:${join(directory, 'merged')}:1`, `docker://${repository}:1`],
    ]);
    assert.equal(copied.status, 0, copied.stderr);
    image = `${repository}@${digest}`;
    await done('generate-key-pair');
  },
  { timeout: buildTimeoutMs },
);
after(() => registry[Symbol.asyncDispose]());

test('the index of an image is signed, with the image of each architecture', async () => {
  const verify = ['verify', keyed('pub'), '--insecure-ignore-tlog', ...plain, image] as const;
  assert.notEqual((await cosign(...verify)).status, 0, 'nothing is signed yet');
  await done('sign', '--recursive', keyed('key'), ...offline, ...plain, image);
  assert.match(await done(...verify), /docker-manifest-digest|sha256:/);
  const raw = ['inspect', '--raw', '--tls-verify=false', `docker://${image}`];
  const { manifests } = JSON.parse((await tryRun('skopeo', raw)).stdout) as {
    readonly manifests: readonly { readonly digest: string }[];
  };
  assert.equal(manifests.length, 2);
  for (const { digest } of manifests) {
    await done(...verify.slice(0, -1), `${image.split('@')[0]}@${digest}`);
  }
});

test('an SBOM is attested for the image, and for no other', async () => {
  const file = join(directory, 'agent.cdx.json');
  writeFileSync(file, JSON.stringify({ bomFormat: 'CycloneDX', specVersion: '1.6', version: 1 }));
  const type = '--type=cyclonedx';
  await done('attest', type, `--predicate=${file}`, keyed('key'), ...offline, ...plain, image);
  const verify = ['verify-attestation', type, keyed('pub'), '--insecure-ignore-tlog', ...plain];
  const [line = ''] = (await done(...verify, image)).trim().split('\n');
  const { payload } = JSON.parse(line) as { readonly payload: string };
  const statement = JSON.parse(Buffer.from(payload, 'base64').toString()) as {
    readonly subject: readonly { readonly digest: { readonly sha256: string } }[];
    readonly predicateType: string;
  };
  assert.equal(statement.subject[0]?.digest.sha256, image.split(':').at(-1));
  assert.match(statement.predicateType, /cyclonedx/i);
});

test('another key signs for nobody', async () => {
  const other = mkdtempSync(join(directory, 'other-'));
  const made = await tryRun(binary('cosign'), ['generate-key-pair'], {
    cwd: other,
    env: { ...process.env, COSIGN_PASSWORD: '' },
  });
  assert.equal(made.status, 0, made.stderr);
  const key = `--key=${join(other, 'cosign.pub')}`;
  const { status, stderr } = await cosign('verify', key, '--insecure-ignore-tlog', ...plain, image);
  assert.notEqual(status, 0);
  assert.match(stderr, /no (matching )?signatures|invalid signature/i);
});
