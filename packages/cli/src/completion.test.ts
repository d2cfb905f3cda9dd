// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const directory = mkdtempSync(join(tmpdir(), 'tandem-completion-'));
after(() => rmSync(directory, { recursive: true, force: true }));
const empty = join(directory, 'empty');
mkdirSync(empty);
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
  // Asked once: each start of a program takes a while.
  writeFileSync(`${path}.bash`, execFileSync(path, ['completion', 'bash']));
}

const quoted = (words: readonly string[]): string => words.map((word) => `'${word}'`).join(' ');
const linesOf = (shell: string, args: readonly string[]): readonly string[] =>
  // Shells offer files too: where there are none.
  execFileSync(shell, args, { env, encoding: 'utf8', cwd: empty }).trim().split('\n');

/** Words that a shell offers for the line, whose last word may be begun. */
function offered(program: string, words: readonly string[]): readonly string[] {
  const script = [
    `source ${join(directory, program)}.bash`,
    `COMP_WORDS=(${quoted([program, ...words])})`,
    `COMP_CWORD=${words.length}`,
    `_${program.replace('-', '_')}`,
    'printf "%s\\n" "${COMPREPLY[@]}"',
  ].join('\n');
  return linesOf('bash', ['-c', script]);
}

/** The same of zsh, whose own functions of completion run in an interactive shell alone: what they are given is printed. */
function offeredByZsh(program: string, words: readonly string[]): readonly string[] {
  const script = [
    'compdef() { :; }; _files() { :; }; compadd() { print -l -- "${(@P)2}"; }',
    `source <(${program} completion zsh)`,
    `words=(${quoted([program, ...words])})`,
    'CURRENT=$#words',
    `_${program.replace('-', '_')}`,
  ].join('\n');
  return linesOf('zsh', ['-f', '-c', script]);
}

/** The same of fish, which describes words after a tab. */
function offeredByFish(program: string, words: readonly string[]): readonly string[] {
  const line = [program, ...words].join(' ');
  const script = `${program} completion fish | source; complete --do-complete '${line}'`;
  return linesOf('fish', ['--no-config', '-c', script]).map((each) => each.split('\t')[0] ?? '');
}

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
  { program: 'kubectl-tandem', words: ['policy', 'validate', '--st'], offers: ['--strict'] },
  { program: 'kubectl-tandem', words: ['sysdump', '--re'], offers: ['--redact'] },
  { program: 'kubectl-tandem', words: ['--context', 'prod', 'no'], offers: ['node'] },
  { program: 'kubectl-tandem', words: ['status', '--kubec'], offers: ['--kubeconfig'] },
] as const;

for (const { program, words, offers } of rows) {
  test(`bash: ${program} ${words.join(' ')}`, () =>
    assert.deepEqual(offered(program, words), offers));
}
// The program says what is offered, whichever shell asks: others are asked where earlier words decide.
for (const [shell, ask] of Object.entries({ zsh: offeredByZsh, fish: offeredByFish })) {
  for (const { program, words, offers } of rows.filter((row) => row.words.length > 2)) {
    test(`${shell}: ${program} ${words.join(' ')}`, () =>
      assert.deepEqual(ask(program, words), offers));
  }
}

test('the hidden command is not offered', () => {
  assert.ok(!offered('tandem', ['']).some((each) => each.startsWith('_')));
});
