// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// Attaches in a namespace of the test's own (see src/link.test.ts): one step per process, which names
// the step and a directory for pins.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';

import { BpfError } from '../../src/errors.ts';
import {
  attachCgroup,
  attachNetfilter,
  attachReuseport,
  attachTcx,
  BpfLink,
  cgroupAttach,
  detachReuseport,
  netfilterHook,
  queryTcx,
} from '../../src/link.ts';
import { ensureTcxPins, tcxPinsMax } from '../../src/link-pins.ts';
import { ifindex } from '../../src/netns.ts';
import { BpfObject } from '../../src/object.ts';
import { BpfProgram } from '../../src/program.ts';
import { bindReuseport, Cgroup, objectPath, u32, u64 } from '../fixture.ts';

const [step = '', pinDirectory = ''] = process.argv.slice(2);
using object = BpfObject.open(objectPath('loader'));
object.load();
const veth = ifindex('veth0');
const count = object.program('count_packet');
const other = object.program('other_packet');

function throwsCode(run: () => unknown, code: string, name?: string): void {
  assert.throws(
    run,
    (error: unknown) =>
      error instanceof BpfError &&
      error.code === code &&
      (name === undefined || error.errnoName === name),
    `${code} ${name ?? ''}`,
  );
}

function ip(...parameters: string[]): void {
  const { status, stderr } = spawnSync('ip', parameters, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

function programsAt(direction: 'ingress' | 'egress'): number[] {
  return queryTcx(veth, direction).programs.map(({ programId }) => programId);
}

function tcxOrder(): void {
  assert.deepEqual(programsAt('ingress'), []);
  using first = attachTcx({ program: count, ifindex: veth, direction: 'ingress' });
  using last = attachTcx({ program: other, ifindex: veth, direction: 'ingress' });
  assert.deepEqual(programsAt('ingress'), [count.id, other.id]);
  assert.deepEqual(programsAt('egress'), []);
  const root = object.program('slot_root');
  const target = object.program('slot_target');
  using head = attachTcx({ program: root, ifindex: veth, direction: 'ingress', before: 'all' });
  using middle = attachTcx({ program: target, ifindex: veth, direction: 'ingress', before: last });
  assert.deepEqual(programsAt('ingress'), [root.id, count.id, target.id, other.id]);
  throwsCode(
    () => attachTcx({ program: count, ifindex: veth, direction: 'ingress' }),
    'TANDEM_BPF_EXISTS',
  );
  middle[Symbol.dispose]();
  assert.deepEqual(programsAt('ingress'), [root.id, count.id, other.id]);
  const anchors = [
    { after: count },
    { after: first },
    { after: { linkId: first.info().id } },
    { after: { programId: count.id } },
  ] as const;
  for (const anchor of anchors) {
    using link = attachTcx({ program: target, ifindex: veth, direction: 'ingress', ...anchor });
    assert.equal(link.info().kind, 'tcx');
    assert.deepEqual(programsAt('ingress'), [root.id, count.id, target.id, other.id]);
  }
  const chain = queryTcx(veth, 'ingress');
  assert.ok(chain.revision > 1n);
  assert.equal(chain.programs[0]?.linkId, head.info().id);
}

function tcxUpdateAndDetach(): void {
  using link = attachTcx({ program: count, ifindex: veth, direction: 'egress' });
  const info = link.info();
  assert.ok(info.kind === 'tcx');
  assert.equal(info.ifindex, veth);
  assert.equal(info.direction, 'egress');
  assert.equal(info.programId, count.id);
  link.update(other);
  assert.equal(link.info().programId, other.id);
  assert.deepEqual(programsAt('egress'), [other.id]);
  link.detach();
  assert.deepEqual(programsAt('egress'), []);
  const gone = link.info();
  assert.ok(gone.kind === 'tcx' && gone.ifindex === 0);
  using again = BpfLink.openId(info.id);
  assert.equal(again.info().id, info.id);
  using byFd = BpfLink.fromFd(link.fd);
  assert.equal(byFd.info().id, info.id);
}

function tcxInterfaceGone(): void {
  ip('link', 'add', 'doomed0', 'type', 'veth', 'peer', 'name', 'doomed1');
  using link = attachTcx({ program: count, ifindex: ifindex('doomed0'), direction: 'ingress' });
  ip('link', 'delete', 'doomed0');
  const info = link.info();
  assert.ok(info.kind === 'tcx' && info.ifindex === 0);
  throwsCode(() => link.update(other), 'TANDEM_BPF_SYSCALL', 'ENOLINK');
}

function netfilter(): void {
  const accept = object.program('accept_all');
  for (const family of ['ipv4', 'ipv6'] as const) {
    using link = attachNetfilter({
      program: accept,
      family,
      hook: 'postRouting',
      priority: family === 'ipv4' ? 90 : -90,
    });
    assert.deepEqual(link.info(), {
      kind: 'netfilter',
      id: link.info().id,
      programId: accept.id,
      family: family === 'ipv4' ? 2 : 10,
      hook: netfilterHook.postRouting,
      priority: family === 'ipv4' ? 90 : -90,
      defrag: false,
    });
    // The kernel has no update for these links.
    assert.throws(() => link.update(accept), BpfError);
    link.detach();
  }
  using defragmenting = attachNetfilter({
    program: accept,
    family: 'ipv4',
    hook: 'localIn',
    priority: 112,
    defrag: true,
  });
  const info = defragmenting.info();
  assert.ok(info.kind === 'netfilter' && info.defrag);
}

function netfilterRefused(): void {
  const accept = object.program('accept_all');
  const place = { program: accept, family: 'ipv4', hook: 'localIn' } as const;
  using link = attachNetfilter({ ...place, priority: 5 });
  throwsCode(() => attachNetfilter({ ...place, priority: 5 }), 'TANDEM_BPF_SYSCALL', 'EBUSY');
  const lowest = { ...place, priority: -(2 ** 31) };
  throwsCode(() => attachNetfilter(lowest), 'TANDEM_BPF_SYSCALL', 'ERANGE');
  assert.throws(() => attachNetfilter({ ...place, priority: 2 ** 31 }), RangeError);
  throwsCode(
    () => attachNetfilter({ ...place, program: count, priority: 6 }),
    'TANDEM_BPF_SYSCALL',
    'EINVAL',
  );
  link.detach();
  link.detach();
}

async function canBind(port: number): Promise<boolean> {
  const socket = createSocket('udp4');
  const isBound = once(socket, 'listening').then(
    () => true,
    () => false,
  );
  socket.bind(port, '127.0.0.1');
  const result = await isBound;
  socket.close();
  return result;
}

async function cgroup(): Promise<void> {
  const group = new Cgroup();
  const refusedPort = 47_653;
  const allow = object.program('allow_bind4');
  writeFileSync(`${group.path}/cgroup.procs`, String(process.pid));
  try {
    assert.equal(await canBind(refusedPort), true);
    const place = { cgroupPath: group.path, attachType: 'bind4' } as const;
    const link = attachCgroup({ program: allow, ...place });
    using six = attachCgroup({
      program: object.program('allow_bind6'),
      cgroupPath: group.path,
      attachType: 'bind6',
    });
    assert.equal(await canBind(refusedPort), false);
    assert.equal(await canBind(refusedPort + 1), true);
    const info = link.info();
    assert.ok(info.kind === 'cgroup' && info.cgroupId > 0n);
    assert.equal(info.attachType, cgroupAttach.bind4);
    const sixInfo = six.info();
    assert.ok(sixInfo.kind === 'cgroup' && sixInfo.attachType === cgroupAttach.bind6);
    link[Symbol.dispose]();
    assert.equal(await canBind(refusedPort), true, 'closed is detached');
    assert.throws(() => attachCgroup({ program: count, ...place }), BpfError);
    throwsCode(
      () => attachCgroup({ ...place, program: allow, cgroupPath: '/nonexistent' }),
      'TANDEM_BPF_NOT_FOUND',
    );
    throwsCode(
      () => attachCgroup({ ...place, program: allow, cgroupPath: '/tmp' }),
      'TANDEM_BPF_SYSCALL',
      'EBADF',
    );
  } finally {
    writeFileSync(`${group.path}/../cgroup.procs`, String(process.pid));
    group[Symbol.dispose]();
  }
}

async function reuseport(): Promise<void> {
  const select = object.program('select_second');
  const listeners = object.map('listeners');
  const first = await bindReuseport();
  const second = await bindReuseport(first.port);
  const client = createSocket('udp4');
  try {
    listeners.update(u32(0), u64(BigInt(first.fd)));
    listeners.update(u32(1), u64(BigInt(second.fd)));
    attachReuseport(select, first.fd);
    let received = 0;
    first.socket.on('message', () => assert.fail('the program chooses the other socket'));
    const done = new Promise<void>((resolve) => {
      second.socket.on('message', () => {
        received += 1;
        if (received === 32) resolve();
      });
    });
    for (let i = 0; i < 32; i++) client.send('x', first.port, '127.0.0.1');
    await done;
    detachReuseport(second.fd);
    throwsCode(() => detachReuseport(first.fd), 'TANDEM_BPF_NOT_FOUND', 'ENOENT');
    assert.throws(() => attachReuseport(count, first.fd), BpfError);
    throwsCode(() => attachReuseport(select, 999_999), 'TANDEM_BPF_SYSCALL', 'EBADF');
  } finally {
    for (const { socket } of [first, second]) socket.close();
    client.close();
  }
}

function pinned(): void {
  const path = `${pinDirectory}/link`;
  {
    using link = attachTcx({ program: count, ifindex: veth, direction: 'ingress' });
    link.pin(path);
  }
  assert.deepEqual(programsAt('ingress'), [count.id], 'the pin holds it');
  using again = BpfLink.openPinned(path);
  assert.equal(again.info().programId, count.id);
  throwsCode(() => BpfLink.openPinned(`${pinDirectory}/none`), 'TANDEM_BPF_NOT_FOUND');
  count.pin(`${pinDirectory}/program`);
  throwsCode(() => BpfLink.openPinned(`${pinDirectory}/program`), 'TANDEM_BPF_KIND');
  again.detach();
  assert.deepEqual(programsAt('ingress'), []);
}

async function ensuredPins(): Promise<void> {
  const absent = 999_999;
  const prefix = `${pinDirectory}/first_`;
  const ensure = (
    program: BpfProgram,
    ...ifindexes: readonly number[]
  ): Promise<readonly (BpfError | null)[]> =>
    ensureTcxPins({ program, direction: 'ingress', place: 'first', prefix, ifindexes });
  const idAt = (index: number): number => {
    using link = BpfLink.openPinned(`${prefix}${index}`);
    return link.info().id;
  };
  using later = attachTcx({ program: other, ifindex: veth, direction: 'ingress' });
  assert.deepEqual(await ensure(count), []);
  const [made, refused] = await ensure(count, veth, absent);
  assert.equal(made, null);
  assert.ok(refused instanceof BpfError && refused.errnoName === 'ENODEV');
  assert.match(refused.message, /first_999999/);
  assert.deepEqual(programsAt('ingress'), [count.id, other.id], 'before the one that was there');
  const id = idAt(veth);
  assert.deepEqual(await ensure(count, veth), [null]);
  assert.equal(idAt(veth), id, 'it was there');
  later[Symbol.dispose]();
  {
    const passing = BpfProgram.fromFd(other.fd);
    const swapped = ensure(passing, veth);
    passing[Symbol.dispose]();
    assert.deepEqual(await swapped, [null], 'the program may go meanwhile');
  }
  assert.deepEqual(programsAt('ingress'), [other.id]);
  assert.equal(idAt(veth), id, 'swapped in place');
  // Another interface with the index of one that went.
  const index = 4711;
  const add = ['link', 'add', 'passing0', 'index', `${index}`, 'type', 'veth', 'peer', 'passing1'];
  ip(...add);
  assert.deepEqual(await ensure(count, index), [null]);
  const former = idAt(index);
  ip('link', 'delete', 'passing0');
  ip(...add);
  assert.deepEqual(await ensure(count, index, veth), [null, null]);
  assert.notEqual(idAt(index), former);
  ip('link', 'delete', 'passing0');
  // A pin that is no link stays.
  const strange = 4712;
  count.pin(`${prefix}${strange}`);
  const [odd] = await ensure(count, strange);
  assert.ok(odd instanceof BpfError && odd.errnoName === 'EINVAL');
  using still = BpfProgram.openPinned(`${prefix}${strange}`);
  assert.equal(still.id, count.id);
  const most = Array.from({ length: tcxPinsMax }, () => absent);
  assert.equal((await ensure(count, ...most)).length, tcxPinsMax);
  await assert.rejects(async () => ensure(count, ...most, absent), RangeError);
}

function wrongArguments(): void {
  throwsCode(
    () => attachTcx({ program: count, ifindex: 999_999, direction: 'ingress' }),
    'TANDEM_BPF_NOT_FOUND',
    'ENODEV',
  );
  assert.throws(() => attachTcx({ program: count, ifindex: -1, direction: 'ingress' }), RangeError);
  assert.throws(
    () =>
      attachTcx({
        program: count,
        ifindex: veth,
        direction: 'ingress',
        before: 'all',
        after: 'all',
      }),
    TypeError,
  );
  throwsCode(() => queryTcx(999_999, 'ingress'), 'TANDEM_BPF_NOT_FOUND');
  const link = attachTcx({ program: count, ifindex: veth, direction: 'ingress' });
  link[Symbol.dispose]();
  link[Symbol.dispose]();
  throwsCode(() => link.info(), 'TANDEM_BPF_CLOSED');
  throwsCode(() => link.fd, 'TANDEM_BPF_CLOSED');
}

const functions: Readonly<Record<string, () => void | Promise<void>>> = {
  'tcx-order': tcxOrder,
  'tcx-update-and-detach': tcxUpdateAndDetach,
  'tcx-interface-gone': tcxInterfaceGone,
  netfilter,
  'netfilter-refused': netfilterRefused,
  cgroup,
  reuseport,
  pinned,
  'ensured-pins': ensuredPins,
  'wrong-arguments': wrongArguments,
};

const run = functions[step];
assert.ok(run !== undefined, `no step ${step}`);
await run();
