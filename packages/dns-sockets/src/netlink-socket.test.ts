// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { openSockets, until } from '../test/wait.ts';
import { netlinkDatagramBytesMax, netlinkSocketsMax } from './limits.ts';
import { NetlinkSocket, netlinkProtocol } from './netlink-socket.ts';

const rtnlgrpLink = 1;
const handlers = { onMessages: () => {}, onOverrun: () => {}, onError: () => {} };

/** RTM_GETLINK as a dump: struct nlmsghdr and struct ifinfomsg. */
function dumpLinks(): Uint8Array {
  const view = new DataView(new ArrayBuffer(32));
  view.setUint32(0, 32, true);
  view.setUint16(4, 18, true);
  view.setUint16(6, 0x301, true);
  view.setUint32(8, 7, true);
  return new Uint8Array(view.buffer);
}

/** Each in a process of its own, in a network namespace of its own. */
function inNamespace(script: string): string {
  const module = new URL('./netlink-socket.ts', import.meta.url).href;
  const source = `import { NetlinkSocket, netlinkProtocol } from '${module}';${script}`;
  const args = ['--conditions=@tandem/source', '--input-type=module', '-e', source];
  return execFileSync('unshare', ['--net', process.execPath, ...args], {
    encoding: 'utf8',
    timeout: 30_000,
  });
}

test('a dump comes in messages of the kernel, at multiples of 4, until its end', async () => {
  const batches: Uint8Array[] = [];
  using socket = new NetlinkSocket({
    ...handlers,
    protocol: netlinkProtocol.ROUTE,
    onMessages: (bytes) => void batches.push(bytes),
  });
  socket.send(dumpLinks());
  const types = (): number[] => {
    const found: number[] = [];
    for (const bytes of batches) {
      const view = new DataView(bytes.buffer);
      for (let at = 0; at < bytes.length; at += (view.getUint32(at, true) + 3) & ~3) {
        assert.equal(view.getUint32(at + 8, true), 7);
        found.push(view.getUint16(at + 4, true));
      }
    }
    return found;
  };
  await until(() => types().includes(3), 'NLMSG_DONE');
  assert.ok(
    types()
      .slice(0, -1)
      .every((type) => type === 16),
  );
});

test('notices come unasked, and an overrun is said after what came before', () => {
  const text = inNamespace(String.raw`
    import { execFileSync } from 'node:child_process';
    const seen = [];
    const socket = new NetlinkSocket({
      protocol: netlinkProtocol.ROUTE,
      groups: [${rtnlgrpLink}],
      receiveBufferBytes: 4096,
      onMessages: (bytes) => seen.push('messages'),
      onOverrun: () => seen.push('overrun'),
      onError: (error) => seen.push(error.errnoName),
    });
    execFileSync('ip', ['link', 'add', 'br0', 'type', 'bridge']);
    const until = (what) => new Promise((resolve) => {
      const look = () => (seen.includes(what) ? resolve() : setTimeout(look, 1));
      look();
    });
    await until('messages');
    const lines = Array.from({ length: 40 }, (_, i) => 'link add b' + i + ' type bridge').join('\n');
    execFileSync('ip', ['-batch', '-'], { input: lines });
    await until('overrun');
    // It goes on: what comes next is heard.
    seen.length = 0;
    execFileSync('ip', ['link', 'del', 'br0']);
    await until('messages');
    socket.close();
    process.stdout.write([...new Set(seen)].join());
  `);
  assert.equal(text, 'messages');
});

test('what is lost after ENOBUFS, until the queue is empty, is said too', () => {
  const text = inNamespace(String.raw`
    import { execFileSync } from 'node:child_process';
    const ip = (...lines) => execFileSync('ip', ['-batch', '-'], { input: lines.join('\n') });
    const seen = [];
    const socket = new NetlinkSocket({
      protocol: netlinkProtocol.ROUTE,
      groups: [${rtnlgrpLink}],
      receiveBufferBytes: 4096,
      onMessages: (bytes) => seen.push(Buffer.from(bytes).includes('late0') ? 'late0' : 'other'),
      onOverrun: () => {
        // The queue is still full: the kernel drops the next notice without an error.
        if (!seen.includes('overrun')) ip('link add late0 type bridge');
        seen.push('overrun');
      },
      onError: (error) => seen.push(error.errnoName),
    });
    ip(...Array.from({ length: 40 }, (_, i) => 'link add b' + i + ' type bridge'));
    const look = () => {
      const first = seen.indexOf('overrun');
      const isKnown = first !== -1 && seen.slice(first + 1).some((what) => what !== 'other');
      if (!isKnown) return void setTimeout(look, 1);
      socket.close();
      process.stdout.write(seen.join());
    };
    look();
  `);
  assert.match(text, /overrun,(other,)*overrun$/);
});

test('what another process sends is not heard', () => {
  // It sends the end of a dump to our port; then the kernel is asked for one.
  const text = inNamespace(String.raw`
    import { execFileSync } from 'node:child_process';
    import { readFileSync } from 'node:fs';
    const sequences = [];
    const socket = new NetlinkSocket({
      protocol: netlinkProtocol.ROUTE,
      onMessages: (bytes) => sequences.push(new DataView(bytes.buffer).getUint32(8, true)),
      onOverrun: () => {},
      onError: () => {},
    });
    // Columns: address of the socket, protocol, port.
    const port = readFileSync('/proc/net/netlink', 'utf8').split('\n').slice(1)
      .map((line) => line.trim().split(/ +/))
      .find(([, protocol, pid]) => protocol === '0' && pid !== '0')[2];
    const forge = [
      'import socket, struct, sys',
      's = socket.socket(16, 3, 0)',
      's.sendto(struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0), (int(sys.argv[1]), 0))',
      'print("sent")',
    ].join('\n');
    const sent = execFileSync('python3', ['-c', forge, port], { encoding: 'utf8' }).trim();
    socket.send(Uint8Array.from([${dumpLinks().join()}]));
    const look = () => {
      if (sequences.length === 0) return void setTimeout(look, 1);
      process.stdout.write(sent + ' ' + sequences[0]);
      socket.close();
    };
    look();
  `);
  assert.equal(text, 'sent 7');
});

test('limits, wrong groups and closed sockets are errors', async () => {
  const before = openSockets();
  const open = (): NetlinkSocket =>
    new NetlinkSocket({ ...handlers, protocol: netlinkProtocol.ROUTE });
  const all = Array.from({ length: netlinkSocketsMax }, open);
  assert.throws(open, { errnoName: 'ENOBUFS' });
  const [first, ...rest] = all;
  assert.ok(first !== undefined);
  assert.throws(() => first.join(60_000), { errnoName: 'EINVAL' });
  assert.throws(() => first.send(new Uint8Array(0)), { code: 'TANDEM_SOCKET_ARGUMENT' });
  const long = new Uint8Array(netlinkDatagramBytesMax + 1);
  assert.throws(() => first.send(long), { code: 'TANDEM_SOCKET_ARGUMENT' });
  first.close();
  first.close();
  assert.throws(() => first.send(dumpLinks()), { errnoName: 'EBADF' });
  for (const socket of rest) socket.close();
  await until(() => openSockets() === before, 'every socket is closed');
});
