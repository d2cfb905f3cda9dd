// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The build of a locked image in C. Needs a built checkout. */

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { machineArchitecture } from './machine.ts';
import { nativeBuild } from './native-build.ts';

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
