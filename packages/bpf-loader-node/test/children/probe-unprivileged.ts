// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// Probes as an unprivileged user: every BPF feature is refused with what is missing.

import assert from 'node:assert/strict';

import { probeFeature } from '../../src/feature.ts';

process.setgid?.(65_534);
process.setuid?.(65_534);

for (const name of ['sk_reuseport', 'tcx_link', 'netfilter_link', 'syscall_program'] as const) {
  const feature = probeFeature(name);
  assert.equal(feature.supported, false, name);
  assert.match(feature.reason ?? '', /not permitted \(EPERM\): needs CAP_BPF/);
}
