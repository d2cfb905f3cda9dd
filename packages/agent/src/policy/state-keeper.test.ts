// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { StableIds } from '@tandem/core/policy/model/stable-ids';
import { silentLogger } from '@tandem/runtime/log';
import { StateKeeper } from './state-keeper.ts';

const directory = mkdtempSync(join(tmpdir(), 'tandem-keeper-'));
after(() => rmSync(directory, { recursive: true, force: true }));

test('a disk that takes nothing: the copy in the run directory is named, and made again when somebody removes it', async () => {
  const stateDir = join(directory, 'state');
  const paths = {
    run: join(directory, 'policy.snapshot'),
    disk: join(stateDir, 'policy.snapshot'),
  };
  // A directory with something in it: no file can be renamed over it, by root either.
  mkdirSync(join(paths.disk, 'occupied'), { recursive: true });
  const keeper = new StateKeeper({
    ...{ stateDir, paths, proxyGid: process.getgid?.() ?? 0 },
    log: silentLogger(),
  });
  const message = (): string => keeper.degradations[0]?.message ?? '';
  await keeper.keep({ revision: 7, snapshot: new Uint8Array(100), ids: StableIds.empty() });
  assert.ok(existsSync(paths.run));
  assert.match(message(), /begins with the copy/);
  rmSync(paths.run);
  assert.match(message(), /begins with the policy on disk/);
  await keeper.tend();
  assert.ok(existsSync(paths.run));
  assert.match(message(), /begins with the copy/);
});
