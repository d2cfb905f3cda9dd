// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The SBOM of the images of this checkout, which must be built. */

import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Spec, Validation } from '@cyclonedx/cyclonedx-library';
import { machineArchitecture, machineDistribution } from './machine.ts';
import { productLayers } from './product-images.ts';
import { sbomOf } from './sbom.ts';
import type { TarFile } from './tar.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));

interface Sbom {
  readonly serialNumber: string;
  readonly components: readonly {
    readonly name: string;
    readonly version: string;
    readonly purl: string;
    readonly evidence: { readonly occurrences: readonly { readonly location: string }[] };
  }[];
}

let files: readonly TarFile[];
let sbom: Sbom;
const made = (of: readonly TarFile[]): Sbom =>
  sbomOf({
    ...{ name: 'tandem/agent', version: '0.1.0', architecture: machineArchitecture() },
    ...{ distribution: machineDistribution(), files: of },
  }) as Sbom;
before(async () => {
  files = (await productLayers(root)).flat();
  sbom = made(files);
});

test('it is CycloneDX 1.6, with nothing that the format does not know', async () => {
  const validator = new Validation.JsonStrictValidator(Spec.Version.v1dot6);
  assert.equal(await validator.validate(JSON.stringify(sbom)), null);
});

test('each file of the images is of a component, and there are no others', () => {
  const located = sbom.components.flatMap(({ evidence }) =>
    evidence.occurrences.map(({ location }) => location),
  );
  const present = files.filter(({ content }) => content !== null).map(({ path }) => `/${path}`);
  assert.deepEqual([...new Set(located)].toSorted(), present.toSorted());
});

test('packages of the distribution have a version, an architecture and a source', () => {
  for (const [name, source] of [
    ['libc6', 'glibc'],
    ['nftables', 'nftables'],
    ['libnftables1', 'nftables'],
    ['iptables', 'iptables'],
    ['libbpf1', 'libbpf'],
  ] as const) {
    const found = sbom.components.filter((each) => each.name === name);
    assert.equal(found.length, 1, name);
    const [{ purl, version } = { purl: '', version: '' }] = found;
    const [id] = machineDistribution().split('-');
    const base = `pkg:deb/${id}/${name}@${encodeURIComponent(version)}`;
    const architecture = machineArchitecture();
    assert.equal(
      purl,
      `${base}?arch=${architecture}&distro=${machineDistribution()}&upstream=${source}`,
    );
  }
});

test('the C library is named that is linked into the static programs, beside ours', () => {
  const ofPrograms = sbom.components.filter(({ evidence }) =>
    evidence.occurrences.some(({ location }) => location.startsWith('/opt/tandem/bin/')),
  );
  assert.deepEqual(
    ofPrograms.map(({ name }) => name),
    ['libc6-dev', 'tandem'],
  );
  const [library] = ofPrograms;
  assert.match(library?.purl ?? '', /^pkg:deb\/\w+\/libc6-dev@2\.\d+.*&upstream=glibc$/);
  assert.deepEqual(
    library?.evidence.occurrences.map(({ location }) => location),
    ['gate', 'launch', 'probe'].map((name) => `/opt/tandem/bin/tandem-${name}`),
  );
});

test('what was bundled is named with its version, and once', () => {
  const names = sbom.components.map(({ name }) => name);
  const purls = sbom.components.map(({ purl }) => purl);
  assert.deepEqual(purls, [...new Set(purls)]);
  for (const name of ['@grpc/grpc-js', 'winston', 'yaml', 'prom-client', 'commander', 'tandem']) {
    assert.ok(names.includes(name), name);
  }
  assert.ok(names.some((name) => /^node/.test(name)));
  for (const name of names) assert.doesNotMatch(name, /^@tandem|esbuild|typescript|client-node/);
});

test('it is the same for the same files, and names nothing of this machine', () => {
  assert.deepEqual(made(files.toReversed()), sbom);
  assert.ok(!JSON.stringify(sbom).includes(root));
  const [first, ...rest] = files;
  assert.ok(first !== undefined);
  const other = made([{ ...first, content: Buffer.from('other') }, ...rest]);
  assert.notEqual(other.serialNumber, sbom.serialNumber);
});
