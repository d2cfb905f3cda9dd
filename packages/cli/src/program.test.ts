// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { version } from '@tandem/dns-proxy/version';
import { ownPrefix } from '@tandem/testing/namespace';
import { cli } from '../test/run-cli.ts';
import { exitCode } from './exit-codes.ts';
import { loadSettings } from './settings.ts';

const rows: readonly { name: string; argv: string[]; code: number; says: RegExp }[] = [
  { name: 'nothing', argv: [], code: exitCode.usage, says: /Usage: tandem/ },
  { name: '--help', argv: ['--help'], code: exitCode.ok, says: /Exit codes:/ },
  { name: '--version', argv: ['--version'], code: exitCode.ok, says: new RegExp(version) },
  { name: 'a group alone', argv: ['fqdn'], code: exitCode.usage, says: /list \[options\]/ },
  { name: 'help of a command', argv: ['observe', '--help'], code: exitCode.ok, says: /--since/ },
  { name: 'unknown command', argv: ['stauts'], code: exitCode.usage, says: /Did you mean status/ },
  {
    name: 'unknown option',
    argv: ['status', '--no'],
    code: exitCode.usage,
    says: /unknown option/,
  },
  {
    name: 'excess argument',
    argv: ['status', 'x'],
    code: exitCode.usage,
    says: /too many arguments/,
  },
  {
    name: 'wrong format',
    argv: ['status', '-o', 'xml'],
    code: exitCode.usage,
    says: /table, json/,
  },
  {
    name: 'wrong pod',
    argv: ['observe', '--pod', 'web'],
    code: exitCode.usage,
    says: /NAMESPACE\/NAME/,
  },
  {
    name: 'wrong name',
    argv: ['fqdn', 'list', '--name', 'a b'],
    code: exitCode.usage,
    says: /may hold only/,
  },
  {
    name: 'wrong verdict',
    argv: ['observe', '--verdict', 'no'],
    code: exitCode.usage,
    says: /allowed, denied/,
  },
  {
    name: 'wrong type',
    argv: ['observe', '--type', 'l7'],
    code: exitCode.usage,
    says: /dns, drop/,
  },
  { name: 'wrong last', argv: ['observe', '--last', '0'], code: exitCode.usage, says: /1\.\./ },
  {
    name: 'wrong since',
    argv: ['observe', '--since', 'now'],
    code: exitCode.usage,
    says: /30s, 5m/,
  },
  { name: 'no file', argv: ['policy', 'validate'], code: exitCode.usage, says: /--file/ },
  {
    name: 'absent file',
    argv: ['policy', 'validate', '-f', '/nowhere'],
    code: exitCode.usage,
    says: /ENOENT/,
  },
  {
    name: 'wrong mark',
    argv: ['doctor', '--mark=0x5000'],
    code: exitCode.usage,
    says: /mark must be auto or one bit/,
  },
  {
    name: 'relative directory',
    argv: ['status', '--run-dir=x'],
    code: exitCode.usage,
    says: /--run-dir.*absolute/,
  },
  {
    name: 'no process',
    argv: ['fqdn', 'list', '--run-dir=/nowhere'],
    code: exitCode.down,
    says: /agent does not answer.*dns-proxy does not answer/,
  },
];

for (const { name, argv, code, says } of rows) {
  test(`usage: ${name}`, async () => {
    const run = await cli(argv);
    assert.match(run.stdout + run.stderr, says);
    assert.equal(run.code, code);
  });
}

test('an argument cannot write to the terminal', async () => {
  const run = await cli(['\u001b]0;owned\u0007'], { isTerminal: true });
  assert.equal(run.code, exitCode.usage);
  assert.ok(!run.stderr.includes('\u0007') && run.stderr.includes('\\u001b]0;owned\\u0007'));
});

test('settings: flag before environment before file before default', () => {
  const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}0-settings-`));
  try {
    const file = join(directory, 'agent.yaml');
    writeFileSync(
      file,
      'nodeName: n1\nsource: directory:/x\nport: 1053\nrunDir: /file\nstateDir: /file\n',
    );
    const env = { TANDEM_RUN_DIR: '/environment', TANDEM_STATE_DIR: '/environment' };
    const loaded = loadSettings({ stateDir: '/flag' }, file, env);
    assert.ok(loaded.ok);
    const { port, runDir, stateDir, bpffsDir } = loaded.value;
    assert.deepEqual(
      { port, runDir, stateDir, bpffsDir },
      { port: 1053, runDir: '/environment', stateDir: '/flag', bpffsDir: '/sys/fs/bpf/tandem' },
    );
    assert.ok(loadSettings({}, undefined, { TANDEM_CONFIG: file }).ok);
    writeFileSync(file, 'prot: 1053\n');
    const wrong = loadSettings({}, file, {});
    assert.ok(!wrong.ok);
    assert.match(wrong.error.join(), /unknown key "prot"; the nearest is "port"/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
