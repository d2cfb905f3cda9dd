// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ipvsEvidence } from './ipvs.ts';

const directory = mkdtempSync(join(tmpdir(), 'tandem-ipvs-'));
after(() => rmSync(directory, { recursive: true }));

const header = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
`;
const service = `TCP  0A600001:01BB rr
  -> C0A83C01:192B      Masq    1      0          0
`;

const cases = [
  ['the module is not loaded', null, false, null],
  ['an interface that IPVS mode left, without the module', null, true, null],
  ['the module alone', header, false, null],
  ['the module and the interface', header, true, /kube-ipvs0 exists/],
  ['virtual services', header + service, false, /has virtual services/],
] as const;

for (const [name, table, hasInterface, evidence] of cases) {
  test(`${name}: ${evidence === null ? 'not in use' : 'in use'}`, () => {
    const path = join(directory, 'ip_vs');
    rmSync(path, { force: true });
    if (table !== null) writeFileSync(path, table);
    const found = ipvsEvidence(hasInterface, path);
    if (evidence === null) assert.equal(found, null);
    else assert.match(found ?? '', evidence);
  });
}
