// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Images of an architecture: every program in them is of it, and the eBPF object is of both. Needs a built checkout. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Architecture, architectures } from './lock.ts';
import { machineArchitecture } from './machine.ts';
import { triplets } from './package-root.ts';
import { productLayers } from './product-images.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'tandem-architecture-'));
after(() => rmSync(scratch, { recursive: true }));

/** Source: include/uapi/linux/elf-em.h. */
const machines: Readonly<Record<Architecture, number>> = { amd64: 62, arm64: 183 };
const bpfMachine = 247;
const objectPath = 'opt/tandem/bpf/tandem.bpf.o';

for (const architecture of architectures) {
  const isHere = architecture === machineArchitecture();
  const compiler = `/usr/bin/${triplets[architecture]}-gcc`;
  const skip =
    isHere || existsSync(compiler)
      ? false
      : `./run images --arch ${architecture} installs ${compiler}`;
  test(`images of ${architecture} have no program of another one, and nothing of the directory that they were made in`, {
    skip,
  }, async () => {
    const files = (await productLayers(root, { architecture })).flat();
    const elfs = files.flatMap(({ path, content }) => {
      const bytes = Buffer.from(content ?? []);
      return bytes.toString('latin1', 0, 4) === '\x7fELF'
        ? [[path, bytes.readUInt16LE(18)] as const]
        : [];
    });
    assert.ok(elfs.length > 100);
    for (const [path, machine] of elfs) {
      assert.equal(machine, path === objectPath ? bpfMachine : machines[architecture], path);
    }
    // Its name is another one in each build.
    const scratchOfBuild = join(tmpdir(), 'tandem-image-');
    for (const { path, content } of files) {
      assert.ok(!Buffer.from(content ?? []).includes(scratchOfBuild), path);
    }
    const paths = new Set(files.map(({ path }) => path));
    for (const path of [
      'bin/node',
      'opt/tandem/build/bpf_loader.node',
      'opt/tandem/bin/tandem-launch',
    ]) {
      assert.ok(paths.has(path), path);
    }
  });
}

const other = architectures.find((each) => each !== machineArchitecture());
const headers = `/usr/${triplets[other ?? 'arm64']}/include`;
const isThere = existsSync(join(headers, 'asm/types.h'));
const skip = isThere ? false : `./run images --arch ${other} installs ${headers}`;
test('the eBPF object of the other architecture differs in debug information alone', {
  skip,
}, () => {
  const sections = ['', headers].map((directory, index) => {
    const build = join(scratch, `${index}`);
    const variables = [`BUILD=${build}`, ...(directory === '' ? [] : [`HEADERS=${directory}`])];
    execFileSync('make', ['-s', '-C', join(root, 'bpf'), ...variables]);
    return sectionsOf(readFileSync(join(build, 'tandem.bpf.o')));
  });
  const [here, there] = sections;
  assert.ok(here !== undefined && here.size > 10);
  assert.deepEqual(there, here);
});

/** Contents of the sections of an ELF file that the loader reads, in hexadecimal. Source: include/uapi/linux/elf.h. */
function sectionsOf(file: Buffer): ReadonlyMap<string, string> {
  const table = Number(file.readBigUInt64LE(40));
  const headersOf = Array.from({ length: file.readUInt16LE(60) }, (_, index) => {
    const at = table + index * 64;
    const [offset, size] = [24, 32].map((field) => Number(file.readBigUInt64LE(at + field)));
    const isEmpty = file.readUInt32LE(at + 4) === 8;
    const content = isEmpty ? Buffer.alloc(0) : file.subarray(offset, (offset ?? 0) + (size ?? 0));
    return { name: file.readUInt32LE(at), content };
  });
  const names = headersOf[file.readUInt16LE(62)]?.content ?? Buffer.alloc(0);
  return new Map(
    headersOf.flatMap(({ name, content }, index) => {
      const text = names.toString('latin1', name, names.indexOf(0, name));
      if (/^\.(rel)?\.?debug_/.test(text)) return [];
      return [[`${index} ${text}`, content.toString('hex')] as const];
    }),
  );
}
