// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { labels } from '../../test/dns-message.ts';
import { invalidNameText, nameFromText, nameLengthAt, nameToText } from './name.ts';

const long63 = 'a'.repeat(63);

test('text becomes lower-case wire form', () => {
  const table: [string, number[] | null][] = [
    ['.', [0]],
    ['com', labels('com')],
    ['com.', labels('com')],
    ['WWW.Example.COM.', labels('www', 'example', 'com')],
    ['_dns.Resolver-1.arpa', labels('_dns', 'resolver-1', 'arpa')],
    ['a\\.b.c', labels('a.b', 'c')],
    ['a\\046b.c', labels('a.b', 'c')],
    ['\\065b.c', labels('ab', 'c')],
    ['\\\\.c', labels('\\', 'c')],
    ['\\000\\255.c', labels([0, 255], 'c')],
    [`${long63}.c`, labels(long63, 'c')],
    ['', null],
    ['..', null],
    ['.com', null],
    ['a..b', null],
    ['a.b..', null],
    [`${long63}a.c`, null],
    ['a\\', null],
    ['a\\2', null],
    ['a\\25', null],
    ['a\\256.c', null],
    ['a b', null],
    ['a\u0000b', null],
    ['ä.de', null],
    ['a\\ä.de', null],
    ['\u001b[31m', null],
  ];
  for (const [text, want] of table) {
    assert.deepEqual(nameFromText(text), want === null ? null : Uint8Array.from(want), text);
  }
});

test('names have at most 255 octets', () => {
  const three = `${long63}.${long63}.${long63}.`;
  assert.equal(nameFromText(`${three}${'b'.repeat(61)}`)?.length, 255);
  assert.equal(nameFromText(`${three}${'b'.repeat(61)}.`)?.length, 255);
  assert.equal(nameFromText(`${three}${'b'.repeat(62)}`), null);
  assert.equal(nameFromText(`${three}${'b'.repeat(59)}.c`)?.length, 255);
  assert.equal(nameFromText(`${three}${'b'.repeat(59)}.cd`), null);
  assert.equal(nameFromText('a.'.repeat(127))?.length, 255);
  assert.equal(nameFromText('a.'.repeat(128)), null);
});

test('text is safe for terminals, logs and HTML', () => {
  const table: [number[], string][] = [
    [[0], '.'],
    [labels('www', 'example'), 'www.example.'],
    [labels('a.b', 'c\\d'), 'a\\.b.c\\\\d.'],
    [labels('\u001b[31m'), '\\027\\09131m.'],
    [labels([0, 127, 255, 10]), '\\000\\127\\255\\010.'],
    [labels('<img src=x>'), '\\060img\\032src\\061x\\062.'],
    [labels('"\'`$&;(){}'), '\\034\\039\\096\\036\\038\\059\\040\\041\\123\\125.'],
    [labels('*', '0/25'), '*.0/25.'],
    [[1], invalidNameText],
    [[], invalidNameText],
    [[0xc0, 12], invalidNameText],
    [[64, ...Array.from({ length: 64 }, () => 97), 0], invalidNameText],
    [Array.from({ length: 300 }, (_, i) => (i % 2 === 0 ? 1 : 97)), invalidNameText],
  ];
  for (const [wire, want] of table) assert.equal(nameToText(Uint8Array.from(wire)), want);
});

test('the length of a name ends at the end of the message', () => {
  const wire = Uint8Array.from([9, 9, ...labels('ab', 'c'), 9]);
  assert.equal(nameLengthAt(wire, 2, wire.length), 6);
  assert.equal(nameLengthAt(wire, 2, 8), 6);
  for (let end = 0; end < 8; end++) assert.equal(nameLengthAt(wire, 2, end), 0);
});
