// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `tandem doctor` inside namespaces with the traps set up, as a process of its own. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { agentCapabilities } from '@tandem/agent/privileges';
import type { Namespace } from '@tandem/testing/namespace';
import { createNode } from '@tandem/testing/netns';
import { Probe } from '@tandem/testing/probe';
import { run as runProgram, tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { exitCode } from '../exit-codes.ts';
import type { CheckResult } from './check.ts';

const main = fileURLToPath(new URL('../main.ts', import.meta.url));
const fromSource = ['--conditions=@tandem/source', '--disable-warning=ExperimentalWarning', main];
const boundMs = 20_000;

interface Diagnosis {
  readonly code: number | null;
  readonly stdout: string;
  /** By name; missing ones are undefined. */
  check(name: string): CheckResult | undefined;
}

async function doctor(namespace: Namespace, ...argv: string[]): Promise<Diagnosis> {
  const command = namespace.enter(process.execPath, [
    ...fromSource,
    'doctor',
    '-o',
    'json',
    ...argv,
  ]);
  const run = await tryRun(...command, { timeoutMs: boundMs });
  assert.equal(run.stderr, '');
  const { checks } = JSON.parse(run.stdout) as { checks: CheckResult[] };
  return {
    code: run.status,
    stdout: run.stdout,
    check: (name) => checks.find(({ check }) => check === name),
  };
}

const absentPins = '--bpffs-dir=/sys/fs/bpf/tandem-doctor-test-absent';
const preflight = [absentPins, '--preflight'];

test('a node without traps is fit', async () => {
  await using node = await createNode({ pods: [{ name: 'web', kind: 'bridge' }] });
  const found = await doctor(node.node, ...preflight);
  assert.equal(found.code, exitCode.ok, found.stdout);
  for (const name of [
    ...['kernel-tcx-link', 'kernel-netfilter-link', 'kernel-btf', 'capabilities', 'bpffs'],
    ...['port-in-use', 'port-ephemeral', 'mark-firewall', 'mark-routing4', 'mark-routing6'],
    ...['bridge-nf-call-iptables', 'bridge-nf-call-ip6tables', 'conntrack4', 'conntrack6'],
    ...['input4', 'input6', 'output4', 'output6', 'syn-cookies'],
  ]) {
    assert.equal(found.check(name)?.status, 'pass', `${name}: ${found.check(name)?.why}`);
  }
  assert.equal(found.check('rp-filter')?.status, 'info');
  for (const name of ['pins', 'lanes']) assert.equal(found.check(name)?.status, 'skip');
});

test('a node without SYN cookies, until the fix is applied', async () => {
  await using node = await createNode({ pods: [] });
  await node.node.sysctl({ 'net.ipv4.tcp_syncookies': 0 });
  const found = await doctor(node.node, ...preflight);
  assert.equal(found.code, exitCode.ok, 'a warning');
  assert.equal(found.check('syn-cookies')?.status, 'warn');
  const [program = '', ...args] = (found.check('syn-cookies')?.fix ?? '').split(' ');
  await node.node.run(program, args);
  assert.equal((await doctor(node.node, ...preflight)).check('syn-cookies')?.status, 'pass');
});

test('nothing pinned is a failure of a node that should run Tandem', async () => {
  await using node = await createNode({ pods: [] });
  const found = await doctor(node.node, absentPins);
  assert.equal(found.code, exitCode.problem);
  assert.match(found.check('pins')?.fix ?? '', /start tandem-agent/);
  assert.equal(found.check('rules-unchecked')?.status, 'skip');
});

test('pods on a bridge that skips netfilter', async () => {
  await using node = await createNode({
    pods: [{ name: 'web', kind: 'bridge' }],
    bridgeNetfilter: 0,
  });
  const found = await doctor(node.node, ...preflight);
  assert.equal(found.code, exitCode.problem);
  for (const name of ['bridge-nf-call-iptables', 'bridge-nf-call-ip6tables']) {
    assert.equal(found.check(name)?.status, 'fail');
    assert.match(found.check(name)?.why ?? '', /cni0/);
    assert.equal(found.check(name)?.fix, `sysctl -w net.bridge.${name}=1`);
  }
  // The fix is the fix: per bridge it helps as well.
  await node.node.run('sysctl', ['-qw', 'net.bridge.bridge-nf-call-iptables=1']);
  await node.node.ip(['link set cni0 type bridge nf_call_ip6tables 1']);
  assert.equal((await doctor(node.node, ...preflight)).code, exitCode.ok);
});

test('INPUT that drops steered queries, until the fix is applied', async () => {
  await using node = await createNode({ pods: [] });
  await node.node.run('iptables', ['-P', 'INPUT', 'DROP']);
  await node.node.run(
    'nft',
    [...['-f', '-']],
    'table ip6 fw { chain in { type filter hook input priority 0; policy drop; ct state established accept; }; }\n',
  );
  const found = await doctor(node.node, ...preflight);
  assert.equal(found.code, exitCode.problem);
  assert.equal(found.check('input4')?.status, 'fail');
  assert.equal(
    found.check('input4')?.fix,
    'iptables -t filter -I INPUT 1 -m mark --mark 0x1000/0x1000 -j ACCEPT',
  );
  assert.equal(found.check('input6')?.status, 'fail');
  for (const name of ['input4', 'input6']) {
    const [program = '', ...args] = (found.check(name)?.fix ?? '').split(' ');
    await node.node.run(program, args);
  }
  const fixed = await doctor(node.node, ...preflight);
  assert.equal(fixed.check('input4')?.status, 'pass');
  assert.equal(fixed.check('input6')?.status, 'pass');
  assert.equal(fixed.check('mark-firewall')?.status, 'pass', 'the fix is no foreign use');
  assert.equal(fixed.code, exitCode.ok);
});

test('OUTPUT that drops replies to pods and queries to servers, until the fix is applied', async () => {
  await using node = await createNode({ pods: [] });
  await node.node.run('iptables', ['-P', 'OUTPUT', 'DROP']);
  await node.node.run('iptables', ['-A', 'OUTPUT', '-o', 'lo', '-j', 'ACCEPT']);
  await node.node.run(
    'nft',
    [...['-f', '-']],
    `table ip6 fw { chain out {
      type filter hook output priority 0; policy drop;
      ct state vmap { established : accept, related : accept, invalid : drop };
      oifname "lo" accept;
      udp dport 53 accept;
    }; }\n`,
  );
  const found = await doctor(node.node, ...preflight);
  assert.equal(found.code, exitCode.problem);
  for (const name of ['output4', 'output6']) {
    assert.equal(found.check(name)?.status, 'fail', found.check(name)?.why);
    assert.match(found.check(name)?.why ?? '', /replies to pods and queries that Tandem sends/);
    await node.node.run('bash', ['-c', found.check(name)?.fix ?? '']);
  }
  const fixed = await doctor(node.node, ...preflight);
  for (const name of ['output4', 'output6']) {
    assert.equal(fixed.check(name)?.status, 'pass', fixed.check(name)?.why);
  }
  await node.node.run('iptables', ['-F', 'OUTPUT']);
  await node.node.run('iptables', [
    ...['-A', 'OUTPUT', '-m', 'owner', '--uid-owner', '65532', '-j', 'ACCEPT'],
  ]);
  const unsure = await doctor(node.node, ...preflight);
  assert.equal(unsure.check('output4')?.status, 'warn', 'a rule that doctor cannot evaluate');
});

test('a table that belongs to another program gets no advice that the kernel refuses', async () => {
  await using node = await createNode({ pods: [] });
  // The table is its own for as long as it has its socket.
  const owner = spawn(...node.node.enter('nft', ['-i']), { stdio: ['pipe', 'ignore', 'inherit'] });
  try {
    owner.stdin?.write(
      'add table inet fw { flags owner; chain in { type filter hook input priority 0; policy drop; }; }\n',
    );
    await waitFor(async () => (await node.node.run('nft', ['list', 'tables'])).includes('fw'), {
      what: 'the table',
    });
    const found = (await doctor(node.node, ...preflight)).check('input4');
    assert.equal(found?.status, 'fail');
    assert.match(found?.fix ?? '', /flag owner.*have that program accept meta mark and 0x1000/);
    const refused = 'nft insert rule inet fw in meta mark and 0x1000 == 0x1000 accept';
    await assert.rejects(node.node.run('bash', ['-c', refused]), /Operation not permitted/);
  } finally {
    owner.kill();
  }
});

test('another process on port P is named, with its pid', async () => {
  await using node = await createNode({ pods: [] });
  const probe = node.own(await Probe.start(node.node));
  await probe.listen({ protocol: 'udp', address: '0.0.0.0', port: 10_053 });
  await probe.listen({ protocol: 'tcp', address: '::', port: 10_053 });
  await node.node.run('sysctl', ['-qw', 'net.ipv4.ip_local_port_range=10000 20000']);
  const found = await doctor(node.node, ...preflight);
  assert.equal(found.code, exitCode.problem);
  const port = found.check('port-in-use');
  assert.equal(port?.status, 'fail');
  assert.match(port?.why ?? '', /, udp, uid 0;.*, tcp6, uid 0/);
  assert.match(port?.fix ?? '', /kill \d+\)/);
  const ephemeral = found.check('port-ephemeral');
  assert.equal(ephemeral?.status, 'warn');
  assert.equal(ephemeral?.fix, 'sysctl -w net.ipv4.ip_local_reserved_ports=10053');
  const other = await doctor(node.node, ...preflight, '--port=10054');
  assert.equal(other.check('port-in-use')?.status, 'pass');
});

test('others who use our bits of the mark', async () => {
  await using node = await createNode({ pods: [] });
  await node.node.run('iptables', [
    '-t',
    'mangle',
    '-A',
    'PREROUTING',
    '-j',
    'MARK',
    '--set-mark',
    '1',
  ]);
  await node.node.ip(['rule add fwmark 1 lookup 100']);
  await node.node.run('ip', ['-6', 'rule', 'add', 'fwmark', '0x1000/0x1000', 'lookup', '100']);
  const found = await doctor(node.node, ...preflight);
  assert.equal(found.code, exitCode.problem);
  assert.equal(found.check('mark-firewall')?.status, 'fail');
  assert.match(found.check('mark-firewall')?.why ?? '', /iptables -t mangle -A PREROUTING -j MARK/);
  assert.equal(
    found.check('mark')?.status,
    'fail',
    'every bit is changed by a rule without a mask',
  );
  assert.match(found.check('mark')?.why ?? '', /the agent would not start.*give rules .* a mask/);
  assert.equal(found.check('mark-routing4')?.status, 'pass', 'it never matches a steered packet');
  assert.equal(found.check('mark-routing6')?.status, 'warn');
  const other = await doctor(node.node, ...preflight, '--mark=0x100000');
  assert.equal(other.check('mark-routing6')?.status, 'pass');
  await node.node.run('iptables', ['-t', 'mangle', '-F']);
  const free = await doctor(node.node, ...preflight);
  assert.match(free.check('mark')?.why ?? '', /the agent would take bit 0x40/);
  assert.equal(free.code, exitCode.ok, free.stdout);
  const set = await doctor(node.node, ...preflight, '--mark=0x1000');
  assert.match(set.check('mark')?.why ?? '', /the option mark is 0x1000.*leave mark at auto/);
  assert.match(set.check('mark-routing6')?.fix ?? '', /--mark=auto/);
});

test('paths that are no bpffs and no cgroup v2', async () => {
  await using node = await createNode({ pods: [] });
  const found = await doctor(node.node, '--preflight', '--bpffs-dir=/tmp/x', '--cgroup-path=/tmp');
  assert.equal(found.code, exitCode.problem);
  assert.equal(found.check('bpffs')?.status, 'fail');
  assert.equal(found.check('bpffs')?.fix, 'mkdir -p /tmp/x && mount -t bpf bpf /tmp/x');
  assert.equal(found.check('cgroup2')?.status, 'warn');
});

test('a run or state directory that cannot be written to, until it can', async (t) => {
  await using node = await createNode({ pods: [] });
  const directory = mkdtempSync(join(tmpdir(), 'tandem-doctor-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'file');
  writeFileSync(file, '');
  const readOnly = join(directory, 'ro');
  mkdirSync(readOnly);
  await runProgram('mount', ['-t', 'tmpfs', '-o', 'ro', 'tandem-test', readOnly]);
  try {
    const argv = [...preflight, `--run-dir=${readOnly}/run`, `--state-dir=${file}`];
    const found = await doctor(node.node, ...argv);
    assert.equal(found.check('run-directory')?.status, 'fail');
    assert.match(
      found.check('run-directory')?.why ?? '',
      /ro is on a file system that is read-only/,
    );
    assert.equal(found.check('state-directory')?.fix, `rm ${file}`);
    const below = await doctor(node.node, ...preflight, '--state-dir=/dev/null/tandem');
    assert.match(below.check('state-directory')?.why ?? '', /^\/dev\/null is no directory/);
    assert.doesNotMatch(below.check('state-directory')?.fix ?? '', /rm /);
    await runProgram('mount', ['-o', 'remount,rw', readOnly]);
    rmSync(file);
    const mended = await doctor(node.node, ...argv);
    for (const name of ['run-directory', 'state-directory']) {
      assert.equal(mended.check(name)?.status, 'pass', mended.check(name)?.why);
    }
  } finally {
    await runProgram('umount', [readOnly]);
  }
});

test("in the agent's pod: by its capabilities, and without iproute2 as in its image", async (t) => {
  await using node = await createNode({ pods: [{ name: 'web', kind: 'bridge' }] });
  const directory = mkdtempSync(join(tmpdir(), 'tandem-doctor-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const saves = ['iptables', 'ip6tables'].flatMap((name) =>
    ['', '-nft', '-legacy'].map((variant) => `${name}${variant}-save`),
  );
  for (const program of ['nft', ...saves]) {
    const found = await tryRun('sh', ['-c', `command -v ${program}`]);
    if (found.status === 0) symlinkSync(found.stdout.trim(), join(directory, program));
  }
  const held = agentCapabilities.map((name) => name.toLowerCase());
  const sets = ['--bounding-set', '--inh-caps'].map((set) => `${set}=-all,+${held.join(',+')}`);
  const inPod = ['env', `PATH=${directory}`, process.execPath, ...fromSource, 'doctor'];
  const run = await tryRun(
    ...node.node.enter('setpriv', [...sets, ...inPod, '-o', 'json', ...preflight]),
    { timeoutMs: boundMs },
  );
  const { checks } = JSON.parse(run.stdout) as { checks: CheckResult[] };
  assert.deepEqual(
    checks.filter(({ status }) => status === 'fail'),
    [],
  );
  assert.equal(run.status, exitCode.ok);
});

test('without privileges it says so and still answers', async () => {
  await using node = await createNode({ pods: [] });
  const drop = ['--bounding-set=-all', '--inh-caps=-all', process.execPath, ...fromSource];
  const run = await tryRun(
    ...node.node.enter('setpriv', [...drop, 'doctor', '-o', 'json', '--preflight']),
    { timeoutMs: boundMs },
  );
  const { checks } = JSON.parse(run.stdout) as { checks: CheckResult[] };
  const capabilities = checks.find(({ check }) => check === 'capabilities');
  assert.equal(capabilities?.status, 'fail');
  assert.match(capabilities?.why ?? '', /lacks CAP_NET_ADMIN/);
  assert.equal(run.status, exitCode.problem);
});
