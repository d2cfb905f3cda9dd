// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { runScript } from '../test/child-process.ts';
import { temporaryDirectory } from '../test/temporary-directory.ts';
import { waitUntil } from '../test/wait-until.ts';
import { TandemError } from './tandem-error.ts';
import { directoryProblem, listenUnix, socketPathBytesMax, socketPeer } from './unix-socket.ts';

function code(expected: string): (error: unknown) => boolean {
  return (error) => error instanceof TandemError && error.code === expected;
}

async function close(server: net.Server): Promise<void> {
  server.close();
  await once(server, 'close');
}

test('directory 0750, socket 0660, the umask as before, the group as asked', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'run', 'x.sock');
  const umask = process.umask();
  const server = net.createServer();
  await listenUnix(server, { path, groupId: 65_532 });
  assert.equal(statSync(join(directory.path, 'run')).mode & 0o7777, 0o750);
  assert.equal(statSync(path).mode & 0o7777, 0o660);
  assert.equal(statSync(path).gid, 65_532);
  assert.equal(statSync(join(directory.path, 'run')).gid, 65_532);
  assert.equal(process.umask(), umask);
  await close(server);
  assert.equal(existsSync(path), false);
});

test('the peer of a connection is known', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'x.sock');
  const server = net.createServer();
  await listenUnix(server, { path });
  const connection = once(server, 'connection');
  const client = net.connect({ path });
  const [socket] = (await connection) as [net.Socket];
  assert.deepEqual(socketPeer(socket), {
    pid: process.pid,
    uid: process.getuid?.(),
    gid: process.getgid?.(),
  });
  client.destroy();
  socket.destroy();
  await once(socket, 'close');
  assert.equal(socketPeer(socket), null);
  await close(server);
});

test('a socket that somebody listens on is left alone, that of a dead process is replaced', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'x.sock');
  const child = runScript(`import net from 'node:net';
    net.createServer().listen(${JSON.stringify(path)}, () => console.log('listening'));`);
  await waitUntil('child listens', () => child.output().includes('listening'));
  await assert.rejects(listenUnix(net.createServer(), { path }), code('TANDEM_SOCKET_IN_USE'));
  child.process.kill('SIGKILL');
  await child.exited;
  assert.equal(existsSync(path), true);
  const server = net.createServer();
  await listenUnix(server, { path });
  await close(server);
});

test('a hung process still listens', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'x.sock');
  const child = runScript(`import net from 'node:net';
    net.createServer().listen(${JSON.stringify(path)}, () => console.log('listening'));`);
  await waitUntil('child listens', () => child.output().includes('listening'));
  child.process.kill('SIGSTOP');
  await assert.rejects(listenUnix(net.createServer(), { path }), code('TANDEM_SOCKET_IN_USE'));
  child.process.kill('SIGKILL');
  await child.exited;
});

test('what is not safe is refused', async () => {
  using directory = temporaryDirectory();
  const file = join(directory.path, 'file');
  writeFileSync(file, 'precious');
  await assert.rejects(listenUnix(net.createServer(), { path: file }), code('TANDEM_SOCKET_PATH'));
  assert.equal(statSync(file).size, 8);

  const open = join(directory.path, 'open');
  mkdirSync(open);
  chmodSync(open, 0o777);
  const inOpen = { path: join(open, 'x.sock') };
  await assert.rejects(listenUnix(net.createServer(), inOpen), code('TANDEM_SOCKET_PATH'));
  assert.match(directoryProblem(open, []) ?? '', /writable by everybody/);

  const long = { path: `/${'x'.repeat(socketPathBytesMax)}` };
  await assert.rejects(listenUnix(net.createServer(), long), code('TANDEM_SOCKET_PATH'));
  const relative = { path: 'x.sock' };
  await assert.rejects(listenUnix(net.createServer(), relative), code('TANDEM_SOCKET_PATH'));
});
