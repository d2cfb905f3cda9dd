// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The build of a locked image in C. Needs a built checkout. */

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { inputsOf, type Lock, lockPath, parseLock } from './lock.ts';
import { machineArchitecture, machineDistribution } from './machine.ts';
import { nativeBuild } from './native-build.ts';
import { productLayers } from './product-images.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'tandem-native-'));
after(() => rmSync(scratch, { recursive: true }));

const architecture = machineArchitecture();
const read = (path: string): Buffer => readFileSync(join(scratch, path));

test('a build takes no compiler and no flags of the environment, and the compiler of the eBPF object is the one that is named', () => {
  const set = { CC: 'false', CLANG: 'false', CFLAGS: '-O0 -DOTHER', CPPFLAGS: '-DOTHER' };
  const before = Object.keys(set).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, set);
  try {
    const builtIn = (name: string): string => join(scratch, 'set', name);
    nativeBuild(root, { architecture, clang: null, cross: null, builtIn });
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
  const clang = join(scratch, 'clang');
  writeFileSync(clang, '#!/bin/sh\nfor last; do :; done\necho "$0" >"$last"\n', { mode: 0o755 });
  const builtIn = (name: string): string => join(scratch, 'plain', name);
  nativeBuild(root, { architecture, clang, cross: null, builtIn });
  for (const path of [
    ...['cni-gate/tandem-gate', 'pod-programs/tandem-launch', 'pod-programs/tandem-probe'],
    ...['bpf-loader-node/bpf_loader.node', 'dns-sockets/dns_sockets.node'],
  ]) {
    assert.ok(read(`set/${path}`).equals(read(`plain/${path}`)), path);
  }
  assert.equal(read('set/bpf/tandem.bpf.o').toString('latin1', 1, 4), 'ELF');
  assert.equal(read('plain/bpf/tandem.bpf.o').toString(), `${clang}\n`);
});

const lock = parseLock(readFileSync(join(root, lockPath), 'utf8'));
const node = inputsOf(lock, 'node', architecture);
const isOther = node.some(({ version }) => version !== process.versions.node);
test('a locked build compiles into a directory of its own', {
  skip: isOther ? 'a locked build needs Node.js of the lock' : false,
}, async () => {
  const bin = join(scratch, 'bin');
  const calls = join(scratch, 'calls');
  mkdirSync(bin);
  writeFileSync(join(bin, 'make'), `#!/bin/sh\necho "$*" >>${calls}\nexit 1\n`, { mode: 0o755 });
  const before = process.env['PATH'];
  process.env['PATH'] = `${bin}:${before}`;
  try {
    const own: Lock = { distribution: machineDistribution(), inputs: node };
    await assert.rejects(productLayers(root, { isLocked: true, lock: own }), /make/);
  } finally {
    process.env['PATH'] = before;
  }
  const built = join(tmpdir(), 'tandem-image-');
  assert.match(readFileSync(calls, 'utf8'), new RegExp(`^-s -C .* BUILD=${built}.* CC=.*-gcc\n$`));
});
