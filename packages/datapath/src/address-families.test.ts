// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ipv6State } from './address-families.ts';

for (const { interfaces, state } of [
  { interfaces: { all: 0, default: 0, lo: 0, eth0: 0 }, state: 'on' },
  { interfaces: { all: 1, default: 1, lo: 0, eth0: 1 }, state: 'on' },
  { interfaces: { all: 1, default: 1, lo: 1, eth0: 1 }, state: 'off' },
  { interfaces: { all: 1, default: 0, lo: 1 }, state: 'off' },
  { interfaces: { all: 1, default: 0, lo: 1, eth0: 0 }, state: 'no-loopback' },
]) {
  test(`disable_ipv6 ${JSON.stringify(interfaces)} is ${state}`, () => {
    const directory = mkdtempSync(join(tmpdir(), 'tandem-families-'));
    try {
      for (const [name, value] of Object.entries(interfaces)) {
        mkdirSync(join(directory, name));
        writeFileSync(join(directory, name, 'disable_ipv6'), `${value}\n`);
      }
      assert.equal(ipv6State(directory), state);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}

for (const { interfaces, state } of [
  { interfaces: {}, state: 'absent' },
  { interfaces: { lo: ['IPv4'], eth0: ['IPv4'] }, state: 'absent' },
  { interfaces: { lo: ['IPv4', 'IPv6'], eth0: ['IPv4'] }, state: 'on' },
  { interfaces: { lo: ['IPv4'], eth0: ['IPv6'] }, state: 'no-loopback' },
]) {
  test(`without /proc/sys, addresses ${JSON.stringify(interfaces)} are ${state}`, () => {
    const addresses = Object.fromEntries(
      Object.entries(interfaces).map(([name, families]) => [
        name,
        families.map((family) => ({ family })),
      ]),
    );
    assert.equal(
      ipv6State('/absent', () => addresses),
      state,
    );
  });
}
