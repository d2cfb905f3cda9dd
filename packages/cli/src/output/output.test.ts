// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TextStream } from '../../test/run-cli.ts';
import { Printer } from './printer.ts';
import { formatBytes, formatDuration, formatShare, parseSeconds } from './quantities.ts';
import { printTable } from './table.ts';

const hostile = 'a\u001b[31mb\nc\u202ed\u009be\u2028f';
const escaped = 'a\\u001b[31mb\\u000ac\\u202ed\\u009be\\u2028f';

test('no text reaches the stream raw, styled or not, in lines, tables and JSON', () => {
  const stream = new TextStream(false);
  const printer = new Printer(stream, {});
  printer.line(hostile, { text: hostile, style: 'bad' });
  printTable(printer, [{ title: hostile }], [[hostile]]);
  printer.json({ [hostile]: hostile });
  printer.jsonLine({ a: hostile });
  for (const raw of ['\u001b', '\u202e', '\u009b', '\u2028']) assert.ok(!stream.text.includes(raw));
  assert.ok(stream.text.startsWith(`${escaped}${escaped}\n${escaped}\n${escaped}\n`));
  const json = stream.text.slice(stream.text.indexOf('{'), stream.text.indexOf('}\n') + 1);
  assert.deepEqual(JSON.parse(json), { [hostile]: hostile });
});

test('colours: only on a terminal, not with NO_COLOR, never from the text', () => {
  const written = (isTTY: boolean, env: Record<string, string>): string => {
    const stream = new TextStream(isTTY);
    new Printer(stream, env).line({ text: 'x\u001b[0m', style: 'good' });
    return stream.text;
  };
  assert.equal(written(true, {}), '\u001b[32mx\\u001b[0m\u001b[0m\n');
  for (const plain of [
    written(false, {}),
    written(true, { NO_COLOR: '1' }),
    written(true, { TERM: 'dumb' }),
  ]) {
    assert.equal(plain, 'x\\u001b[0m\n');
  }
});

test('tables align by what is shown, not by what was given', () => {
  const stream = new TextStream(false);
  printTable(
    new Printer(stream, {}),
    [{ title: 'NAME' }, { title: 'COUNT', isNumeric: true }, { title: 'X' }],
    [
      ['a\n', '1', 'x'],
      [{ text: 'longer name', style: 'bad' }, '12345678', ''],
    ],
  );
  assert.equal(
    stream.text,
    'NAME            COUNT  X\na\\u000a             1  x\nlonger name  12345678\n',
  );
});

test('quantities', () => {
  const durations = [0.42, 35, 1234, 59_400, 185_000, 7_800_000, 97_200_000, 3_600_000];
  assert.deepEqual(durations.map(formatDuration), [
    ...['0.4 ms', '35 ms', '1.2 s', '59 s', '3 min 5 s', '2 h 10 min', '1 d 3 h', '1 h'],
  ]);
  assert.deepEqual(
    [
      formatShare(0, 9),
      formatShare(1, 1000),
      formatShare(999, 1000),
      formatShare(9, 9),
      formatShare(1, 0),
    ],
    ['0 %', '<1 %', '99 %', '100 %', '-'],
  );
  assert.deepEqual([512, 4096, 1_572_864].map(formatBytes), ['512 B', '4 KiB', '1.5 MiB']);
  assert.deepEqual(['90', '90s', '5m', '2h', '1d', '1w', '-1', ''].map(parseSeconds), [
    ...[90, 90, 300, 7200, 86_400, null, null, null],
  ]);
});
