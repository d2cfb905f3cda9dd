// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { ownPrefix } from '@tandem/testing/namespace';
import { waitFor } from '@tandem/testing/wait';
import { fileBytesMax, filesMax } from '../limits.ts';
import { DirectorySource, type SourceState } from './directory.ts';
import { FileCopies } from './file-copies.ts';

let directory: string;
let source: DirectorySource;
let states: SourceState[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), `${ownPrefix}source-`));
  states = [];
  source = new DirectorySource(directory, (state) => states.push(state));
});
afterEach(() => {
  source.stop();
  rmSync(directory, { recursive: true, force: true });
});

const write = (name: string, text: string): void => writeFileSync(join(directory, name), text);
const object = (name: string): string => JSON.stringify({ kind: 'Pod', metadata: { name } });
const namesOf = (state: SourceState | undefined): string[] =>
  (state?.objects ?? []).map(({ raw }) => (raw as { metadata: { name: string } }).metadata.name);
const latest = (): SourceState =>
  states.at(-1) ?? { objects: [], problems: [], missing: [], unreachable: null };

async function reported(what: string, condition: (state: SourceState) => boolean): Promise<void> {
  await waitFor(() => condition(latest()), { what });
}

test('documents, lists and empty documents; other files are not read', () => {
  write('b.yaml', `${object('one')}\n---\n\n---\n${object('two')}\n`);
  write('a.yml', `kind: PodList\nitems:\n- ${object('three')}\n- ${object('four')}\n`);
  write('.hidden.yaml', object('no'));
  write('notes.txt', object('no'));
  write('c.yaml.swp', object('no'));
  write('d.json', object('five'));
  source.start();
  assert.deepEqual(namesOf(latest()), ['three', 'four', 'one', 'two', 'five']);
  assert.deepEqual(
    latest().objects.map(({ file, document, line }) => `${file}:${line} ${document}`),
    ['a.yml:3 1', 'a.yml:4 1', 'b.yaml:1 1', 'b.yaml:5 3', 'd.json:1 1'],
  );
  assert.deepEqual(latest().problems, []);
  assert.equal(states.length, 1);
});

test('directories in it are told: their files are not read', () => {
  write('a.yaml', object('one'));
  for (const name of ['team-a', '..data', 'b.yaml']) mkdirSync(join(directory, name));
  write('team-a/c.yaml', object('two'));
  source.start();
  assert.deepEqual(namesOf(latest()), ['one']);
  assert.deepEqual(source.folders, ['team-a']);
});

test('files that come, change and go', async () => {
  source.start();
  assert.deepEqual(latest(), { objects: [], problems: [], missing: [], unreachable: null });
  write('a.yaml', object('one'));
  await reported('the file', (state) => namesOf(state).join() === 'one');
  write('a.yaml', `${object('one')}\n---\n${object('two')}`);
  await reported('its change', (state) => namesOf(state).join() === 'one,two');
  write('next', object('three'));
  renameSync(join(directory, 'next'), join(directory, 'a.yaml'));
  await reported('a file put in its place', (state) => namesOf(state).join() === 'three');
  write('b.yaml', '');
  await reported('its change', (state) => namesOf(state).join() === 'three');
  rmSync(join(directory, 'a.yaml'));
  await reported('its end', (state) => state.objects.length === 0);
  assert.deepEqual(latest().problems, []);
});

test('a directory without files, as an unmounted one, ends nothing; an empty file does', async () => {
  const start = (): void => {
    source.stop();
    const copies = new FileCopies(join(directory, 'copies'), directory);
    source = new DirectorySource(directory, (state) => states.push(state), copies);
    source.start();
  };
  start();
  assert.equal(latest().unreachable, null, 'there never was a file');
  write('a.yaml', object('one'));
  await reported('the file', (state) => namesOf(state).join() === 'one');
  rmSync(join(directory, 'a.yaml'));
  await reported('the loss', ({ unreachable }) => unreachable !== null);
  assert.deepEqual(namesOf(latest()), ['one']);
  assert.match(latest().problems[0]?.message ?? '', /has no .yaml file any more, the last good/);
  start();
  assert.match(latest().unreachable ?? '', /any more/);
  assert.equal(latest().missing.length, 1, 'what is in force must stay');
  write('b.yaml', '');
  await reported('the file', ({ unreachable }) => unreachable === null);
  assert.deepEqual(namesOf(latest()), []);
  start();
  assert.deepEqual([latest().unreachable, latest().objects], [null, []]);
});

test('a file that is being written keeps what it had until it is closed', async () => {
  write('a.yaml', `${object('one')}\n---\n${object('two')}`);
  write('b.yaml', object('three'));
  source.start();
  const before = states.length;
  // As a shell does it for `kubectl get -o yaml > a.yaml`: empty at once, filled later, in pieces that are whole documents.
  const writer = openSync(join(directory, 'a.yaml'), 'w');
  await waitFor(() => latest().problems.length > 0, { what: 'a problem' });
  assert.match(latest().problems[0]?.message ?? '', /is open for writing: .*last good content/);
  assert.deepEqual(namesOf(latest()), ['one', 'two', 'three']);
  assert.deepEqual(latest().missing, [], 'it is known as it was');
  writeSync(writer, object('one'));
  write('c.yaml', object('four'));
  await reported('another file', (state) => namesOf(state).includes('four'));
  for (const state of states.slice(before))
    assert.deepEqual(namesOf(state).slice(0, 2), ['one', 'two'], 'never half of it');
  writeSync(writer, `\n---\n${object('five')}`);
  closeSync(writer);
  await reported('the whole file', (state) => namesOf(state).includes('five'));
  assert.deepEqual(namesOf(latest()), ['one', 'five', 'three', 'four']);
  assert.deepEqual(latest().problems, []);
});

test('a file that is being written at the start is missing, and read when it is closed', async () => {
  const writer = openSync(join(directory, 'a.yaml'), 'w');
  writeSync(writer, object('one'));
  source.start();
  assert.deepEqual(namesOf(latest()), []);
  assert.equal(latest().missing[0]?.file, 'a.yaml');
  closeSync(writer);
  await reported('the file', (state) => state.missing.length === 0);
  assert.deepEqual(namesOf(latest()), ['one']);
});

test('a change that keeps the size is seen', async () => {
  write('a.yaml', object('one'));
  source.start();
  write('a.yaml', object('two'));
  utimesSync(join(directory, 'a.yaml'), 1, 1);
  await reported('the change', (state) => namesOf(state).join() === 'two');
});

test('a broken file keeps its last good content and is named, others are untouched', async () => {
  write('a.yaml', object('one'));
  write('b.yaml', object('two'));
  source.start();
  for (const broken of ['kind: [', 'a: b: c', '"unclosed', '\t- x', 'a: *nothing']) {
    write('a.yaml', broken);
    await reported(`a problem with ${broken}`, ({ problems }) => problems.length === 1);
    assert.equal(latest().problems[0]?.file, 'a.yaml');
    assert.match(latest().problems[0]?.message ?? '', /last good content stays in force/);
    assert.deepEqual(namesOf(latest()), ['one', 'two']);
    write('b.yaml', `${object('two')}\n---\n${object(`with-${states.length}`)}`);
    await reported('the other file', (state) => state.objects.length === 3);
    write('b.yaml', object('two'));
    write('a.yaml', object('one'));
    await reported(
      'the mended file',
      ({ problems, objects }) => problems.length === 0 && objects.length === 2,
    );
  }
});

test('a document that is no YAML costs itself alone, and what it held stays', async () => {
  const broken = `kind: Pod\nmetadata: {name: bad}\nspec: {}\nspec: {}\n`;
  const damaged = (): string[] =>
    latest().objects.flatMap(({ line, damage }) => (damage === null ? [] : [`${line}: ${damage}`]));
  write('a.yaml', `${object('one')}\n---\n${broken}---\n${object('two')}\n`);
  source.start();
  assert.deepEqual(
    namesOf(latest()),
    ['one', 'two', 'bad'],
    'never read before: as far as it goes',
  );
  assert.deepEqual(damaged(), ['3: line 6 is no YAML: Map keys must be unique']);
  assert.match(latest().problems[0]?.message ?? '', /^line 6 is no YAML: Map keys must be unique/);
  write('a.yaml', `${object('one')}\n---\n${object('bad')}\n---\n${object('two')}\n`);
  await reported('the mended file', ({ problems }) => problems.length === 0);
  assert.deepEqual(namesOf(latest()), ['one', 'bad', 'two']);
  write('a.yaml', `${object('new')}\n---\n${broken}`);
  await reported('the damage', ({ problems }) => problems.length === 1);
  assert.deepEqual(
    namesOf(latest()),
    ['new', 'one', 'bad', 'two'],
    'one may stand in the damaged part',
  );
  assert.deepEqual(damaged(), [], 'as it was');
  write('a.yaml', `${object('new')}\n---\n${broken.replace('bad', 'other, name: bad')}`);
  await reported('a name that is lost', ({ problems }) =>
    /line 4/.test(problems[0]?.message ?? ''),
  );
  assert.deepEqual(namesOf(latest()), ['new', 'one', 'bad', 'two'], 'it is one of those');
  write('a.yaml', `${object('new')}\n---\n${broken.replace('bad', 'new-too')}`);
  await reported('another name', ({ problems }) => /line 6/.test(problems[0]?.message ?? ''));
  assert.deepEqual(namesOf(latest()), ['new', 'one', 'bad', 'two'], 'so is this');
  write('a.yaml', object('new'));
  await reported('the mended file', ({ objects }) => objects.length === 1);
  write('a.yaml', `${object('new')}\n---\n${broken}`);
  await reported('a new one', ({ problems }) => problems.length === 1);
  assert.deepEqual(namesOf(latest()), ['new', 'bad'], 'nothing is missing, so it is new');
  assert.equal(damaged().length, 1);
  write('a.yaml', JSON.stringify({ kind: 'Pod', metadata: { name: 'new' } }).slice(0, -4));
  await reported('a file cut short', ({ problems }) => !/line 6/.test(problems[0]?.message ?? ''));
  assert.deepEqual(namesOf(latest()), ['new']);
});

test('a pipe, a device or a directory under the name of a manifest is named and not waited for', () => {
  execFileSync('mkfifo', [join(directory, 'pipe.yaml')]);
  symlinkSync('/dev/zero', join(directory, 'zero.yaml'));
  mkdirSync(join(directory, 'directory.yaml'));
  symlinkSync('nowhere', join(directory, 'dangling.yaml'));
  write('good.yaml', object('one'));
  source.start();
  assert.deepEqual(namesOf(latest()), ['one']);
  assert.deepEqual(
    latest().problems.map(({ file }) => file),
    ['dangling.yaml', 'directory.yaml', 'pipe.yaml', 'zero.yaml'],
  );
});

test('a broken file from the start has no content, and is named with what that means for pods', () => {
  write('a.yaml', 'kind: [');
  mkdirSync(join(directory, 'b.yaml'));
  const policy = JSON.stringify({ kind: 'NetworkPolicy', metadata: { name: 'policy' }, spec: {} });
  write('c.yaml', `${policy.slice(0, -1)}, spec: {}}`);
  source.start();
  assert.deepEqual(namesOf(latest()), ['policy'], 'a policy that its pods are denied for');
  const problems = latest().problems.map(({ file, message }) => `${file}: ${message}`);
  assert.match(problems[0] ?? '', /^a\.yaml: .*nothing .* was in force before: .*are open/);
  assert.match(problems[1] ?? '', /^b\.yaml: .*nothing .* was in force before: .*are open/);
  assert.match(problems[2] ?? '', /^c\.yaml: .*read in part denies its pods everything/);
  assert.equal(problems.length, 3);
});

test('what is said of damaged documents is true at each reading: only what was in force stays', async () => {
  const policy = (name: string): string =>
    JSON.stringify({ kind: 'NetworkPolicy', metadata: { name }, spec: {} });
  const damagedPolicy = (name: string): string => `${policy(name).slice(0, -1)}, spec: {}}`;
  const said = async (text: string, pattern: RegExp): Promise<void> => {
    write('a.yaml', text);
    await reported(text, ({ problems }) => pattern.test(problems[0]?.message ?? ''));
  };
  write('a.yaml', `${policy('one')}\n---\n${damagedPolicy('bad')}`);
  source.start();
  const neverInForce = /nothing of such a document was in force before/;
  assert.match(latest().problems[0]?.message ?? '', neverInForce);
  await said(`# edited\n${policy('one')}\n---\n${damagedPolicy('bad')}`, /^line 4 .*nothing of/);
  assert.deepEqual(namesOf(latest()), ['one', 'bad']);
  await said(`# edited\n\n${damagedPolicy('one')}\n---\n${damagedPolicy('bad')}`, /^line 3 /);
  const both = /of such a document the last good.*; a policy that was not in force before .*denies/;
  assert.match(latest().problems[0]?.message ?? '', both);
  await said(damagedPolicy('one'), /the last good content stays in force\)$/);
  assert.deepEqual(namesOf(latest()), ['one']);
});

test('a file that was read in part and cannot be read any more denies the same pods, and that is said', async () => {
  const policy = JSON.stringify({ kind: 'NetworkPolicy', metadata: { name: 'bad' }, spec: {} });
  write('a.yaml', `${policy.slice(0, -1)}, spec: {}}`);
  source.start();
  rmSync(join(directory, 'a.yaml'));
  mkdirSync(join(directory, 'a.yaml'));
  await reported('that', ({ problems }) => !/no YAML/.test(problems[0]?.message ?? 'no YAML'));
  assert.deepEqual(namesOf(latest()), ['bad']);
  assert.match(latest().problems[0]?.message ?? '', /was read in part denies its pods everything/);
});

test('a file that is broken at the start is known as it was, and does not hold up the others', () => {
  const start = (): void => {
    source.stop();
    const copies = new FileCopies(join(directory, 'copies'), directory);
    source = new DirectorySource(directory, (state) => states.push(state), copies);
    source.start();
  };
  const missing = (): string[] => latest().missing.map(({ file }) => file);
  write('a.yaml', object('one'));
  write('b.yaml', object('two'));
  start();
  write('a.yaml', 'kind: [');
  start();
  assert.deepEqual(namesOf(latest()), ['one', 'two']);
  assert.deepEqual(missing(), [], 'all of it is known');
  assert.equal(latest().problems[0]?.file, 'a.yaml');
  write('a.yaml', object('three'));
  start();
  write('a.yaml', '}{');
  rmSync(join(directory, 'b.yaml'));
  start();
  assert.deepEqual(namesOf(latest()), ['three'], 'the last good content, and no file that is gone');
  write('b.yaml', '}{');
  start();
  assert.deepEqual(namesOf(latest()), ['three'], 'nor is it remembered');
  assert.deepEqual(missing(), [], 'it was never in force');
  rmSync(join(directory, 'copies'), { recursive: true });
  start();
  assert.deepEqual(missing(), ['a.yaml', 'b.yaml'], 'without copies nothing is known of either');
});

test('where nothing is in force, a file that is broken at the first start was never in force, then or later', () => {
  const start = (isInForce: boolean): void => {
    source.stop();
    const copies = new FileCopies(join(directory, 'copies'), directory, isInForce);
    source = new DirectorySource(directory, (state) => states.push(state), copies);
    source.start();
  };
  write('a.yaml', object('one'));
  write('b.yaml', '}{');
  start(false);
  assert.deepEqual([namesOf(latest()), latest().missing], [['one'], []]);
  start(true);
  assert.deepEqual([namesOf(latest()), latest().missing], [['one'], []]);
  assert.equal(latest().problems[0]?.file, 'b.yaml', 'but named');
});

test('copies that cannot be written stop nothing, and are not taken for complete', () => {
  const copiesOf = (path: string): FileCopies => new FileCopies(join(directory, 'copies'), path);
  const start = (copies: FileCopies): void => {
    source.stop();
    source = new DirectorySource(directory, (state) => states.push(state), copies);
    source.start();
  };
  write('copies', 'a file where the directory should be');
  write('a.yaml', object('one'));
  const failing = copiesOf(directory);
  start(failing);
  assert.deepEqual(namesOf(latest()), ['one']);
  assert.equal(failing.counters.failed, 1);
  rmSync(join(directory, 'copies'));
  write('b.yaml', 'kind: [');
  for (let i = 0; i < 2; i++) {
    start(copiesOf(directory));
    assert.equal(latest().missing[0]?.file, 'b.yaml', 'it may have been in force');
  }
  write('b.yaml', object('two'));
  start(copiesOf(directory));
  const other = copiesOf('/another/source');
  assert.deepEqual(
    [other.read('a.yaml'), other.wasComplete],
    [null, false],
    'of another directory',
  );
});

test('aliases that explode, and files over the limit, are problems and not memory', () => {
  const bomb = ['a0: &a0 [x,x,x,x,x,x,x,x,x,x]'];
  for (let i = 1; i < 12; i++) {
    bomb.push(`a${i}: &a${i} [${Array.from({ length: 10 }, () => `*a${i - 1}`).join()}]`);
  }
  write('bomb.yaml', bomb.join('\n'));
  write('long.yaml', ' '.repeat(fileBytesMax + 1));
  write('good.yaml', object('one'));
  source.start();
  assert.deepEqual(namesOf(latest()), ['one']);
  assert.deepEqual(
    latest().problems.map(({ file }) => file),
    ['bomb.yaml', 'long.yaml'],
  );
});

test('more files than the limit: said, and those that were read stay', async () => {
  for (let i = 0; i < filesMax; i++) write(`f${String(i).padStart(5, '0')}.yaml`, '');
  write(`f${String(filesMax - 1).padStart(5, '0')}.yaml`, object('last'));
  source.start();
  assert.deepEqual(namesOf(latest()), ['last']);
  write('a.yaml', object('first'));
  await reported('the file too many', ({ problems }) => problems.length === 1);
  assert.match(latest().problems[0]?.message ?? '', new RegExp(`${filesMax + 1} files`));
  assert.deepEqual(namesOf(latest()), ['last']);
});

test('a directory that goes away keeps what it had', async () => {
  write('a.yaml', object('one'));
  source.start();
  renameSync(directory, `${directory}-away`);
  try {
    await reported('the loss', ({ problems }) => problems.length === 1);
    assert.deepEqual(namesOf(latest()), ['one']);
    assert.match(latest().problems[0]?.message ?? '', /cannot be read.*ENOENT/);
  } finally {
    renameSync(`${directory}-away`, directory);
  }
  await reported('its return', ({ problems }) => problems.length === 0);
  assert.deepEqual(namesOf(latest()), ['one']);
});

test('after stop nothing is reported', async () => {
  source.start();
  source.stop();
  write('a.yaml', object('one'));
  const other = new DirectorySource(directory, (state) => states.push(state));
  other.start();
  other.stop();
  assert.equal(states.length, 2, 'the first of each');
});
