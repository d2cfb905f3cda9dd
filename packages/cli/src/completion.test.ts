// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const directory = mkdtempSync(join(tmpdir(), 'tandem-completion-'));
after(() => rmSync(directory, { recursive: true, force: true }));
const env = { ...process.env, PATH: `${directory}:${process.env['PATH'] ?? ''}` };

for (const [name, main] of [
  ['tandem', './main.ts'],
  ['kubectl-tandem', './kubectl/main.ts'],
] as const) {
  const path = join(directory, name);
  const file = fileURLToPath(new URL(main, import.meta.url));
  const node = `${process.execPath} --conditions=@tandem/source --disable-warning=ExperimentalWarning`;
  writeFileSync(path, `#!/bin/sh\nexec ${node} ${file} "$@"\n`);
  chmodSync(path, 0o755);
}

/** Words that a shell offers for the line, whose last word may be begun. */
function offered(program: string, words: readonly string[]): readonly string[] {
  const script = [
    `source <(${program} completion bash)`,
    `COMP_WORDS=(${[program, ...words].map((word) => `'${word}'`).join(' ')})`,
    `COMP_CWORD=${words.length}`,
    `_${program.replace('-', '_')}`,
    'printf "%s\\n" "${COMPREPLY[@]}"',
  ].join('\n');
  return execFileSync('bash', ['-c', script], { env, encoding: 'utf8' }).trim().split('\n');
}

describe('bash', () => {
  const rows = [
    { program: 'tandem', words: ['st'], offers: ['status'] },
    { program: 'tandem', words: ['fqdn', ''], offers: ['list'] },
    { program: 'tandem', words: ['-o', ''], offers: ['table', 'json'] },
    { program: 'tandem', words: ['-o', 'json', 'po'], offers: ['policy'] },
    { program: 'tandem', words: ['policy', 'validate', '--fi'], offers: ['--file'] },
    { program: 'tandem', words: ['explain', 'gate-c'], offers: ['gate-closed'] },
    { program: 'tandem', words: ['explain', 'drop_no_ma'], offers: ['drop_no_match'] },
    { program: 'kubectl-tandem', words: ['explain', 'TANDEM_MA'], offers: ['TANDEM_MARK'] },
    { program: 'kubectl-tandem', words: ['connectivity', ''], offers: ['test'] },
    { program: 'kubectl-tandem', words: ['sysdump', '--re'], offers: ['--redact'] },
    { program: 'kubectl-tandem', words: ['--context', 'prod', 'no'], offers: ['node'] },
    { program: 'kubectl-tandem', words: ['status', '--kubec'], offers: ['--kubeconfig'] },
  ] as const;
  for (const { program, words, offers } of rows) {
    test([program, ...words].join(' '), () => assert.deepEqual(offered(program, words), offers));
  }

  test('the hidden command is not offered', () => {
    assert.ok(!offered('tandem', ['']).some((each) => each.startsWith('_')));
  });
});
