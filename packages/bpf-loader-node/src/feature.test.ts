// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { countFds, runChild } from '../test/fixture.ts';
import { BpfError } from './errors.ts';
import { features, probeFeatures } from './feature.ts';
import { BpfLink, linkIds } from './link.ts';
import { native } from './native.ts';
import { ifindex, netnsCookie } from './netns.ts';
import { BpfProgram } from './program.ts';

test('the native probes are the documented ones, in the same order', () => {
  assert.deepEqual(native.featureNames(), [...features]);
});

test('a feature that the kernel’s version promises is there', () => {
  const [major = 0, minor = 0] = readFileSync('/proc/sys/kernel/osrelease', 'utf8')
    .split('.')
    .map(Number);
  const isPromised = major > 6 || (major === 6 && minor >= 6);
  for (const feature of probeFeatures()) {
    if (isPromised) assert.ok(feature.supported, `${feature.name}: ${feature.reason}`);
    else assert.ok(feature.supported || feature.reason !== undefined);
  }
});

/** Whether a link runs one of the probes' programs; links of other tests may vanish meanwhile. */
function isProbeLink(id: number): boolean {
  try {
    using link = BpfLink.openId(id);
    using program = BpfProgram.openId(link.info().programId);
    return program.name === 'td_probe';
  } catch (error) {
    if (error instanceof BpfError && error.code === 'TANDEM_BPF_NOT_FOUND') return false;
    throw error;
  }
}

test('probes leave no fd and no link behind', () => {
  const before = countFds();
  probeFeatures();
  assert.equal(countFds(), before);
  assert.deepEqual([...linkIds()].filter(isProbeLink), []);
});

test('without capabilities the reason says so', () => {
  const { code, output } = runChild('probe-unprivileged');
  assert.equal(code, 0, output);
});

test('facts of the network namespace', () => {
  assert.ok(netnsCookie() > 0n);
  assert.equal(ifindex('lo'), 1);
  assert.equal(ifindex('no-such-dev'), 0);
  assert.throws(() => ifindex('a-name-longer-than-any-interface'), RangeError);
});
