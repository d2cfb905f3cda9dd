// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { TandemError } from '@tandem/runtime/tandem-error';
import { resolvConfBytesMax, searchSuffixesMax } from './limits.ts';
import { parseSearchList, readSearchList } from './search-list.ts';

const long = 'a'.repeat(64);
const many = Array.from({ length: searchSuffixesMax + 2 }, (_, i) => `s${i}.test`);

const cases: [string, string, readonly string[], number][] = [
  ['an empty file', '', [], 0],
  ['no search line', 'nameserver 192.0.2.1\noptions ndots:5\n', [], 0],
  ['one suffix', 'search example.com\n', ['example.com.'], 0],
  [
    'several, and no end of line',
    'search a.test\tb.test  c.test',
    ['a.test.', 'b.test.', 'c.test.'],
    0,
  ],
  ['the last search line', 'search a.test\nsearch b.test\n', ['b.test.'], 0],
  ['a domain line', 'domain a.test b.test\n', ['a.test.'], 0],
  ['the last of both', 'search a.test\ndomain b.test\n', ['b.test.'], 0],
  ['an empty search line is none', 'search a.test\nsearch\nsearch \n', ['a.test.'], 0],
  ['final dots and upper case', 'search A.Test. b.TEST\n', ['a.test.', 'b.test.'], 0],
  ['copies', 'search a.test A.test. b.test\n', ['a.test.', 'b.test.'], 0],
  ['the root, as systemd-resolved writes it', 'search .\n', [], 0],
  ['bad names', `search a..test ${long}.test b.test ümlaut.test\n`, ['b.test.'], 3],
  ['comments and other words', '#search a.test\n;search b.test\nsearchx c.test\n', [], 0],
  ['a keyword that does not begin its line', ' search a.test\n', [], 0],
  ['lines of another system', 'search a.test\r\n', ['a.test.'], 0],
  ['too many', `search ${many.join(' ')}\n`, many.slice(0, -2).map((name) => `${name}.`), 2],
];

test('the search list of a resolv.conf', () => {
  for (const [what, text, suffixes, ignored] of cases) {
    assert.deepEqual(parseSearchList(text), { suffixes, ignored }, what);
  }
});

test('the file is read up to a limit, and one that cannot be read is an error', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tandem-search-'));
  try {
    const path = join(directory, 'resolv.conf');
    const missing = readSearchList(path);
    assert.ok(missing instanceof TandemError);
    assert.match(missing.message, /resolv\.conf/);
    assert.ok(readSearchList(directory) instanceof TandemError);
    execFileSync('mkfifo', [join(directory, 'pipe')]);
    assert.ok(readSearchList(join(directory, 'pipe')) instanceof TandemError);
    writeFileSync(path, `search a.test\n${'#'.repeat(resolvConfBytesMax)}\nsearch b.test\n`);
    assert.deepEqual(readSearchList(path), { suffixes: ['a.test.'], ignored: 0 });
  } finally {
    rmSync(directory, { recursive: true });
  }
});
