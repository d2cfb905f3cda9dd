// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boolOption, enumOption, intOption, listOption, stringOption } from './config-option.ts';
import { optional, readTool, runTool, type ToolSpec, toolHelp, UsageError } from './tool.ts';

interface Options {
  readonly rounds: number;
  readonly only: readonly string[] | null;
  readonly output: 'text' | 'json';
  readonly jsonFile: string | null;
  readonly skipTcp: boolean;
}

const spec: ToolSpec<Options> = {
  program: './run try',
  description: 'Tries it.',
  words: { usage: 'COMMAND', max: 1 },
  options: {
    rounds: intOption({ description: 'rounds', default: 7, min: 1, max: 9 }),
    only: optional(listOption(enumOption({ description: 'parts', values: ['udp', 'tcp'] }))),
    output: enumOption({
      ...{ short: 'o', placeholder: 'FORMAT', description: 'of the result' },
      ...{ values: ['text', 'json'] as const, default: 'text' },
    }),
    jsonFile: optional(stringOption({ placeholder: 'FILE', description: 'the result' })),
    skipTcp: boolOption({ description: 'no TCP', default: false }),
  },
};

const read = (...argv: string[]) => readTool(spec, argv);
const defaults = { rounds: 7, only: null, output: 'text', jsonFile: null, skipTcp: false };

test('each way to write an option, and words among them', () => {
  assert.deepEqual(read(), { config: defaults, words: [] });
  for (const [argv, config] of [
    [['--rounds', '3'], { rounds: 3 }],
    [['--rounds=3'], { rounds: 3 }],
    [['-o', 'json'], { output: 'json' }],
    [['-ojson'], { output: 'json' }],
    [['--output=json'], { output: 'json' }],
    [['--skip-tcp'], { skipTcp: true }],
    [['--no-skip-tcp'], { skipTcp: false }],
    [['--only', 'udp', '--only', 'tcp'], { only: ['udp', 'tcp'] }],
    [['--only=udp,tcp'], { only: ['udp', 'tcp'] }],
    [['--json-file', '-'], { jsonFile: '-' }],
  ] as const) {
    assert.deepEqual(read(...argv)?.config, { ...defaults, ...config }, argv.join(' '));
  }
  assert.deepEqual(read('--rounds', '2', 'go')?.words, ['go']);
  assert.deepEqual(read('--', '--go')?.words, ['--go']);
  assert.equal(read('--rounds', 'x', '--help'), null, 'help wins over errors');
});

test('every wrong argument is said, an unknown one with the nearest', () => {
  const argv = ['go', 'on', '--runds', '3', '--rounds', '10', '--only', 'sctp', '-x', '--output'];
  assert.throws(
    () => read(...argv),
    (error) => {
      assert.ok(error instanceof UsageError);
      assert.deepEqual(error.message.split('\n'), [
        'unexpected argument "on"',
        'unknown flag --runds; the nearest is --rounds',
        'unexpected argument "-x"',
        'flag --output needs a value',
        '--rounds: 10 is not in 1..9',
        '--only: "sctp" is not one of udp, tcp',
      ]);
      return true;
    },
  );
});

test('help has a line for each option, with choices and default', () => {
  assert.equal(
    toolHelp(spec),
    `usage: ./run try COMMAND [OPTIONS]

Tries it.

  --rounds N           rounds (default 7)
  --only A,B           parts (udp, tcp)
  -o, --output FORMAT  of the result (text, json; default text)
  --json-file FILE     the result
  --skip-tcp           no TCP
  -h, --help           print this
`,
  );
});

test('exit codes: 2 for a wrong argument, 1 for what is thrown, else as the program says', async (t) => {
  const said: string[] = [];
  t.mock.method(process.stderr, 'write', (text: string) => said.push(text) > 0);
  const fails = (error: Error) => () => {
    throw error;
  };
  assert.equal(await runTool(spec, ({ rounds }) => rounds, ['--rounds', '5']), 5);
  assert.equal(await runTool(spec, () => 0, ['--rond', '5']), 2);
  assert.equal(await runTool(spec, fails(new UsageError('--a without --b')), []), 2);
  assert.equal(await runTool(spec, fails(new Error('no room')), []), 1);
  assert.equal(await runTool(spec, fails(new TypeError('of ours')), []), 1);
  const text = said.join('');
  assert.match(text, /^\.\/run try: unknown flag --rond; the nearest is --rounds\n/);
  assert.match(text, /try: --a without --b\n\.\/run try --help lists the options\n/);
  assert.match(
    text,
    /\n\.\/run try: no room\n\.\/run try: TypeError: of ours\n {4}at /,
    'a bug has its stack',
  );
});
