// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The units of packaging/systemd, as they are, under a systemd that is process 1 of its own namespaces: healthy, with no more privileges than
 * they name; each process is started again when it is killed, and stopped and started while the other one serves.
 */

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ownPrefix } from '@tandem/testing/namespace';
import { createNode, type TestNode } from '@tandem/testing/netns';
import { run, tryRun } from '@tandem/testing/process';
import { manifestOf, nodeName } from '../kit/objects.ts';
import { shippedPrivileges, statusOf } from '../kit/shipped-privileges.ts';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const boundMs = 120_000;
const units = ['tandem-agent', 'tandem-dns-proxy'] as const;

/** systemd's own units would set up the machine: of those there are only these, empty. */
const emptyTargets = ['sysinit', 'basic', 'shutdown', 'network-online', 'umount', 'final'];
const targetUnit = (name: string, wants = ''): string =>
  ['[Unit]', `Description=${name}`, 'DefaultDependencies=no', wants, ''].join('\n');

const checkUnit = [
  '[Unit]',
  'DefaultDependencies=no',
  'SuccessAction=exit-force',
  'FailureAction=exit-force',
  '[Service]',
  'Type=oneshot',
  'ExecStart=/bin/bash /run/test/check',
  'StandardOutput=file:/run/test/out',
  'StandardError=file:/run/test/errors',
  '',
].join('\n');

/** Commands that process 1 runs first: nothing of the machine is touched. */
const privateNode = [
  'set -eu',
  'mount --make-rprivate /',
  'mount -t tmpfs -o mode=755 tmpfs "$WORK/private"',
  'mkdir "$WORK/private/upper" "$WORK/private/work" "$WORK/private/run"',
  'mount -t overlay -o "lowerdir=/etc,upperdir=$WORK/private/upper,workdir=$WORK/private/work" overlay /etc',
  `echo ${nodeName} > /etc/hostname`,
  // The directory of the test, at a path that /run does not hide.
  'mount --bind "$WORK" /mnt',
  'for directory in /run /var/lib; do mount -t tmpfs -o mode=755 tmpfs $directory; done',
  'mkdir /run/test && mount --bind /mnt /run/test',
  'mount -t sysfs sysfs /sys',
  'mount -t cgroup2 cgroup2 /sys/fs/cgroup',
  'mount -t bpf -o mode=700 bpf /sys/fs/bpf',
  'mount -t tmpfs tmpfs /opt && mkdir /opt/tandem && mount --bind "$CHECKOUT" /opt/tandem',
  'mkdir -p /etc/tandem/objects && cp /run/test/objects.yaml /etc/tandem/objects/',
  'printf TANDEM_SEARCH_SUFFIXES=. | tee /etc/tandem/agent.env > /etc/tandem/dns-proxy.env',
  'mount --bind /run/test/units /lib/systemd/system',
  'mount -t tmpfs tmpfs /etc/systemd/system',
  'mount -t tmpfs tmpfs /lib/systemd/system-generators',
  'export container=test',
  'exec /lib/systemd/systemd --system --unit=all.target --log-target=console --show-status=0',
];

/** `untilHealthy` looks once a second, because a start of the program takes a third of a second of CPU time. */
const check = [
  'export PATH=/opt/tandem/.tools/bin:$PATH',
  'tandem=/opt/tandem/packages/cli/bin/tandem',
  'untilHealthy() { for try in $(seq 20); do if $tandem status > /run/status; then break; fi; sleep 1; done; cat /run/status; }',
  'show() { echo "## $1"; untilHealthy; systemctl show -p Id,ActiveState,Result,NRestarts,MainPID tandem-agent tandem-dns-proxy; }',
  'show started',
  'for unit in tandem-agent tandem-dns-proxy; do echo "## privileges of $unit"; cat /proc/$(systemctl show --value -p MainPID $unit)/task/*/status; done',
  'for unit in tandem-agent tandem-dns-proxy; do systemctl kill -s KILL --kill-who=main $unit; sleep 0.5; show "killed $unit"; done',
  'for unit in tandem-agent tandem-dns-proxy; do systemctl stop $unit; echo "## stopped $unit"; systemctl show -p Id,ActiveState,Result $unit; systemctl start $unit; show "again $unit"; done',
];

/** One cgroup of ours, which the namespace takes for the root. */
class OwnCgroup {
  readonly path: string;
  readonly #mount: string;

  constructor(directory: string) {
    this.#mount = join(directory, 'cgroup');
    this.path = join(this.#mount, `${ownPrefix}systemd`);
  }

  async make(): Promise<void> {
    mkdirSync(this.#mount);
    await run('mount', ['-t', 'cgroup2', 'cgroup2', this.#mount]);
    mkdirSync(this.path);
  }

  async remove(): Promise<void> {
    await run('find', [this.path, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', ';']);
    await run('umount', [this.#mount]);
  }
}

let work: string;
let output = '';

before(async () => {
  await using node = await createNode({ pods: [{ name: 'client' }] });
  work = mkdtempSync(join(tmpdir(), `${ownPrefix}0-systemd-`));
  writeFiles(node);
  const cgroup = new OwnCgroup(work);
  await cgroup.make();
  try {
    const own = ['--mount', '--uts', '--ipc', '--cgroup', '--pid', '--fork', '--kill-child'];
    const inCgroup = `echo $$ > ${cgroup.path}/cgroup.procs && exec "$@"`;
    const command = ['unshare', ...own, '--mount-proc', 'bash', join(work, 'init')];
    const { stdout, stderr } = await tryRun(
      ...node.node.enter('bash', ['-c', inCgroup, 'bash', ...command]),
      { timeoutMs: boundMs, env: { ...process.env, WORK: work, CHECKOUT: checkout } },
    );
    const [out, errors] = ['out', 'errors'].map((name) => tryRead(join(work, name)));
    assert.ok(out, `${stdout}\n${stderr}\n${errors}`);
    output = out;
  } finally {
    await cgroup.remove();
  }
});
after(() => rmSync(work, { recursive: true, force: true }));

function writeFiles(node: TestNode): void {
  for (const directory of ['private', 'units']) mkdirSync(join(work, directory));
  writeFileSync(join(work, 'init'), privateNode.join('\n'));
  writeFileSync(join(work, 'check'), check.join('\n'));
  writeFileSync(join(work, 'objects.yaml'), manifestOf(node));
  const unitFiles = {
    ...Object.fromEntries(emptyTargets.map((name) => [`${name}.target`, targetUnit(name)])),
    'all.target': targetUnit(
      'all',
      `Wants=${units.map((unit) => `${unit}.service`).join(' ')} check.service`,
    ),
    'check.service': checkUnit,
    ...Object.fromEntries(
      units.map((unit) => [
        `${unit}.service`,
        readFileSync(join(checkout, 'packaging/systemd', `${unit}.service`), 'utf8'),
      ]),
    ),
  };
  for (const [name, text] of Object.entries(unitFiles))
    writeFileSync(join(work, 'units', name), text);
}

function tryRead(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function sectionOf(title: string): string {
  const section = output.split(/^## /m).find((text) => text.startsWith(`${title}\n`));
  assert.ok(section, `no section "${title}" in ${output}`);
  return section;
}

/** The properties that systemctl shows of a unit. */
function stateOf(section: string, unit: string): Readonly<Record<string, string>> {
  const block = section.split('\n\n').find((text) => text.includes(`Id=${unit}.service`)) ?? '';
  return Object.fromEntries(
    block
      .split('\n')
      .flatMap((line) => [/^(\w+)=(.*)$/.exec(line)?.slice(1) ?? []])
      .filter(({ length }) => length > 0),
  ) as Readonly<Record<string, string>>;
}

function valuesOf(section: string, name: string): readonly string[] {
  const lines = [...section.matchAll(new RegExp(`^${name}:\\s+(.*)$`, 'gm'))];
  return [...new Set(lines.map(([, value]) => value?.trim() ?? ''))];
}

test('both units start, and the node is healthy', () => {
  const section = sectionOf('started');
  assert.match(section, /Health: +HEALTHY/);
  for (const unit of units) assert.equal(stateOf(section, unit)['NRestarts'], '0', section);
});

test('each process has the privileges that it needs and no others, in each thread', () => {
  for (const [unit, privileges] of [
    ['tandem-agent', shippedPrivileges.agent],
    ['tandem-dns-proxy', shippedPrivileges['dns-proxy']],
  ] as const) {
    const section = sectionOf(`privileges of ${unit}`);
    for (const [name, value] of Object.entries(statusOf(privileges)))
      assert.deepEqual(valuesOf(section, name), [value], `${name} of ${unit}`);
  }
});

for (const unit of units) {
  test(`${unit} is started again after it was killed`, () => {
    const section = sectionOf(`killed ${unit}`);
    assert.match(section, /Health: +HEALTHY/);
    assert.equal(stateOf(section, unit)['NRestarts'], '1', section);
  });

  test(`${unit} stops in time, and is healthy when it was started again`, () => {
    const stopped = stateOf(sectionOf(`stopped ${unit}`), unit);
    assert.deepEqual([stopped['ActiveState'], stopped['Result']], ['inactive', 'success']);
    const section = sectionOf(`again ${unit}`);
    assert.match(section, /Health: +HEALTHY/);
    for (const each of units) assert.equal(stateOf(section, each)['ActiveState'], 'active');
  });
}
