// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Decisions and output of ./run test --kernels, without an emulator. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ownPrefix } from '@tandem/testing/namespace';
import { newcArchive } from './cpio.ts';
import { isAsExpected, type KernelRun, markdown, summary } from './report.ts';

const busybox = '/bin/busybox';

test('the archive unpacks to what was put into it', (t) => {
  if (!existsSync(busybox)) {
    t.skip('no busybox to unpack it');
    return;
  }
  const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}0-cpio-`));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const contents = ['', 'a', 'four', 'fives', 'x'.repeat(4095)];
  const archive = newcArchive([
    { name: 'sub', mode: 0o40755 },
    ...contents.map((text, i) => ({
      name: `sub/${'n'.repeat(i + 1)}`,
      mode: 0o100640,
      data: Buffer.from(text),
    })),
  ]);
  execFileSync(busybox, ['cpio', '-i'], { cwd: directory, input: archive, stdio: 'pipe' });
  for (const [i, text] of contents.entries()) {
    const path = join(directory, 'sub', 'n'.repeat(i + 1));
    assert.equal(readFileSync(path, 'utf8'), text);
    assert.equal(statSync(path).mode & 0o777, 0o640);
  }
});

const works: KernelRun = {
  spec: { name: '6.12', line: '6.12', suite: 'trixie', expected: 'works', why: 'Debian 13' },
  release: '6.12.95+deb13-amd64',
  version: '6.12.95-1',
  ended: true,
  seconds: 100,
  facts: {
    release: '6.12.95+deb13-amd64',
    missing: [],
    programs: [{ name: 'judge', isAccepted: true, instructions: 1000, reason: '' }],
    objectError: '',
    doctor: { code: 0, text: 'pass  kernel-tcx-link  tried, it works\n' },
  },
  tests: [{ file: 'hooks.test.ts', name: 'passes', outcome: 'passed', error: '' }],
};
const { facts } = works;
assert.ok(facts !== null);
const tooOld: KernelRun = {
  ...works,
  spec: { ...works.spec, expected: 'refused' },
  facts: {
    ...facts,
    missing: ['tcx_link', 'netfilter_link'].map((name) => ({ name, reason: 'needs kernel 6.6' })),
    objectError: 'refused',
    doctor: {
      code: 1,
      text: ['tcx-link', 'netfilter-link']
        .map(
          (name) => `fail  kernel-${name}  needs it\n        fix: boot a kernel of 6.6 or newer\n`,
        )
        .join(''),
    },
  },
  tests: [],
};

const runs: readonly (readonly [what: string, run: KernelRun, isExpected: boolean])[] = [
  ['all is accepted and passes', works, true],
  ['it did not end by itself', { ...works, ended: false }, false],
  ['the guest came to no result', { ...works, facts: null }, false],
  ['no test ran', { ...works, tests: [] }, false],
  [
    'a test failed',
    { ...works, tests: [{ file: 'a', name: 'b', outcome: 'failed', error: 'c' }] },
    false,
  ],
  [
    'a feature is missing',
    { ...works, facts: { ...facts, missing: tooOld.facts?.missing ?? [] } },
    false,
  ],
  [
    'the verifier refuses a program',
    {
      ...works,
      facts: {
        ...facts,
        programs: [{ name: 'judge', isAccepted: false, instructions: 0, reason: 'R1 invalid' }],
      },
    },
    false,
  ],
  ['too old, and what is missing is named', tooOld, true],
  [
    'doctor does not refuse it',
    { ...tooOld, facts: { ...facts, ...tooOld.facts, doctor: facts.doctor } },
    false,
  ],
  ['said to be too old, and has all that is needed', { ...works, spec: tooOld.spec }, false],
];
for (const [what, run, isExpected] of runs) {
  test(`a run where ${what} is ${isExpected ? '' : 'not '}as expected`, () => {
    assert.equal(isAsExpected(run), isExpected);
    assert.equal(summary(run).startsWith('as expected'), isExpected);
  });
}

test('the page has a row for each kernel and the reason of each refusal', () => {
  const page = markdown([works, tooOld]);
  assert.match(
    page,
    /\| 6\.12\.95\+deb13-amd64 \| 6\.12\.95-1 \(trixie\) \| works: Debian 13 \| as expected/,
  );
  assert.match(page, /`tcx_link` needs kernel 6\.6/);
  assert.match(page, /fail {2}kernel-netfilter-link .*\n +fix: boot a kernel of 6\.6/);
});
