// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The apt beside the machine's, with a directory as archive and a machine whose configuration sets what is the other's own. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { openArchive, parseSimulation } from './archive.ts';
import { architectures } from './lock.ts';
import { machineArchitecture } from './machine.ts';

const machine = machineArchitecture();
const other = architectures.find((each) => each !== machine) ?? machine;

let directory: string;
/** Directories and files of the machine's apt, which nothing else may change. */
let owned: string;
const before = process.env['APT_CONFIG'];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tandem-archive-test-'));
  owned = join(directory, 'machine');
  for (const part of ['parts', 'preferences', 'sources', 'lists/partial', 'archives/partial']) {
    mkdirSync(join(owned, part), { recursive: true });
  }
  write('status', '');
  write(
    'apt.conf',
    `Dir::Etc::main "/dev/null";
Dir::Etc::parts "${owned}/parts";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "${owned}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "${owned}/preferences";
`,
  );
  // What apt.conf.d sets wins over the file of APT_CONFIG.
  write(
    'parts/90machine',
    `Dir::State "${owned}";
Dir::State::lists "${owned}/lists";
Dir::State::status "${owned}/status";
Dir::Cache "${owned}";
Dir::Cache::archives "${owned}/archives";
Dir::Cache::pkgcache "${owned}/pkgcache.bin";
Dir::Cache::srcpkgcache "${owned}/srcpkgcache.bin";
APT::Architecture "${machine}";
APT::Architectures { "${machine}"; "s390x"; };
APT::Cache::AllVersions "false";
APT::Update::Pre-Invoke { "touch ${directory}/hook"; };
APT::Update::Post-Invoke { "touch ${directory}/hook"; };
APT::Update::Post-Invoke-Success { "touch ${directory}/hook"; };
`,
  );
  process.env['APT_CONFIG'] = join(owned, 'apt.conf');
});
afterEach(() => {
  if (before === undefined) delete process.env['APT_CONFIG'];
  else process.env['APT_CONFIG'] = before;
  rmSync(directory, { recursive: true });
});

function write(name: string, text: string): void {
  writeFileSync(join(owned, name), text);
}

interface Package {
  readonly name: string;
  readonly version: string;
  readonly architecture?: string;
  readonly depends?: string;
}

/** Writes an archive, which is a source of the machine from then on. */
function publish(name: string, packages: readonly Package[]): void {
  const archive = join(directory, name);
  mkdirSync(archive);
  const stanzas = packages.map((of) => {
    const { name: ofName, version, architecture = other, depends } = of;
    const fields = `Package: ${ofName}\nVersion: ${version}\nArchitecture: ${architecture}\nMaintainer: Tests <tests@example.com>\n${depends === undefined ? '' : `Depends: ${depends}\n`}Description: of a test\n`;
    const tree = mkdtempSync(join(directory, 'tree-'));
    mkdirSync(join(tree, 'DEBIAN'));
    writeFileSync(join(tree, 'DEBIAN/control'), fields);
    const file = `${ofName}_${version}_${architecture}.deb`;
    execFileSync('dpkg-deb', ['--build', tree, join(archive, file)], { stdio: 'pipe' });
    const content = readFileSync(join(archive, file));
    const sha256 = createHash('sha256').update(content).digest('hex');
    return `${fields}Filename: ./${file}\nSize: ${content.length}\nSHA256: ${sha256}\n`;
  });
  writeFileSync(join(archive, 'Packages'), stanzas.join('\n'));
  write(`sources/${name}.list`, `deb [trusted=yes] file:${archive} ./\n`);
}

function filesOf(path: string): readonly string[] {
  return readdirSync(path, { recursive: true, encoding: 'utf8' }).toSorted();
}

test("nothing of the machine's own apt is changed, whatever its configuration says", () => {
  publish('archive', [
    { name: 'one', version: '1', depends: 'two' },
    { name: 'two', version: '2' },
    { name: 'here', version: '3', architecture: machine },
  ]);
  const files = filesOf(owned);
  const to = join(directory, 'to');
  mkdirSync(to);
  using archive = openArchive(other);
  const chosen = archive.closureOf(['one']);
  archive.download(chosen, to);
  assert.deepEqual(
    chosen.map(({ name, version }) => [name, version]),
    [
      ['two', '2'],
      ['one', '1'],
    ],
  );
  assert.throws(() => archive.closureOf(['here']), /Unable to locate package here/);
  assert.deepEqual(filesOf(to), [`one_1_${other}.deb`, `two_2_${other}.deb`]);
  assert.deepEqual(filesOf(owned), files);
  assert.ok(!existsSync(join(directory, 'hook')));
});

test('the version is that which apt would install, with its hash, though a newer one is there', () => {
  publish('archive', [
    { name: 'one', version: '1:2~b+u1' },
    { name: 'one', version: '1:3' },
  ]);
  write('preferences/pin', 'Package: one\nPin: version 1:2~b+u1\nPin-Priority: 1001\n');
  using archive = openArchive(other);
  const versions = archive.versionsOf(['one', 'unknown']);
  assert.deepEqual(
    versions.map(({ version }) => version),
    ['1:3', '1:2~b+u1'],
  );
  assert.deepEqual(archive.closureOf(['one']), versions.slice(1));
});

test('where the indices cannot be updated, opening fails and names the fix, or takes those of the machine', () => {
  publish('archive', [
    { name: 'one', version: '1', architecture: machine, depends: 'two' },
    { name: 'two', version: '2', architecture: machine },
  ]);
  execFileSync('apt-get', ['update', '-qq'], { stdio: 'pipe' });
  rmSync(join(directory, 'hook'));
  const files = filesOf(owned);
  write('sources/third-party.list', `deb [trusted=yes] file:${directory}/gone ./\n`);
  assert.throws(
    () => openArchive(machine),
    new RegExp(`${directory}/gone.*\\n(.*\\n)*.*each source .* have ${machine}: disable`),
  );
  const reasons: string[] = [];
  using archive = openArchive(machine, (reason) => void reasons.push(reason));
  assert.match(reasons.join(), new RegExp(`^apt-get update .* failed: .*${directory}/gone`));
  const chosen = archive.closureOf(['one']);
  assert.deepEqual(
    chosen.map(({ name, version }) => [name, version]),
    [
      ['two', '2'],
      ['one', '1'],
    ],
  );
  const to = join(directory, 'to');
  mkdirSync(to);
  archive.download(chosen, to);
  assert.equal(filesOf(to).length, 2);
  assert.deepEqual(
    filesOf(owned).filter((name) => name !== 'sources/third-party.list'),
    files,
  );
  assert.ok(!existsSync(join(directory, 'hook')));
});

test('a simulation is read, also of a package that is installed', () => {
  const text = `Reading package lists...
Inst libc6 (2.36-9+deb12u14 Debian:12.15/oldstable, Debian-Security:12 [arm64])
Inst zlib1g [1:1.2] (1:1.3~b Debian:12.15/oldstable [arm64]) []
Conf libc6 (2.36-9+deb12u14 Debian:12.15/oldstable [arm64])
`;
  assert.deepEqual(parseSimulation(text), [
    { name: 'libc6', version: '2.36-9+deb12u14' },
    { name: 'zlib1g', version: '1:1.3~b' },
  ]);
});
