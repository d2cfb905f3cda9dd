// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

for (const main of ['main.ts', 'kubectl/main.ts']) {
  test(`${main} under a Node.js that is too old: the exit code of wrong usage, and the fix`, () => {
    const older = "Object.defineProperty(process.versions, 'node', { value: '20.19.0' })";
    const path = fileURLToPath(new URL(main, import.meta.url));
    const preload = `data:text/javascript,${encodeURIComponent(older)}`;
    const ran = spawnSync(
      process.execPath,
      ['--conditions=@tandem/source', '--import', preload, path, 'version'],
      { encoding: 'utf8' },
    );
    assert.equal(ran.status, 2, ran.stderr);
    assert.match(
      ran.stderr,
      /^tandem needs Node\.js 24 or newer, and .* is 20\.19\.0: set TANDEM_NODE/,
    );
  });
}
