// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { exitCode } from '../exit-codes.ts';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
const people = path('../../test/fixtures/people');

function validate(
  args: readonly string[],
  input = '',
): { readonly status: number | null; readonly stdout: string; readonly stderr: string } {
  const options = ['--conditions=@tandem/source', path('../main.ts'), 'policy', 'validate'];
  return spawnSync(process.execPath, [...options, ...args], { input, encoding: 'utf8' });
}

test('-f - reads standard input', () => {
  const policy = readFileSync(path('../../../../examples/names.yaml'), 'utf8');
  const good = validate(['-f', '-'], policy);
  assert.deepEqual(
    [good.status, good.stdout],
    [exitCode.ok, '1 file, 1 object, 1 valid policy: no errors\n'],
  );
  const bad = validate(['-f', '-'], policy.replace('matchName:', 'matchNam:'));
  assert.equal(bad.status, exitCode.problem);
  assert.match(bad.stdout, /^-:12, document 1: error/);
});

test('-R reads the directories below, which are passed by without it', () => {
  assert.match(
    validate(['-f', people]).stdout,
    /^2 files, .* 1 valid policy: no errors; 2 objects/,
  );
  assert.match(
    validate(['-R', '-f', people]).stdout,
    /^4 files, .* 2 valid policies: no errors; 4/,
  );
});

test('--strict makes warnings errors', () => {
  const policy = readFileSync(path('../../../../examples/names.yaml'), 'utf8');
  const udpAlone = policy.replace('protocol: ANY', 'protocol: UDP');
  assert.equal(validate(['-f', '-'], udpAlone).status, exitCode.ok);
  assert.equal(validate(['--strict', '-f', '-'], udpAlone).status, exitCode.problem);
});
