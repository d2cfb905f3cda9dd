// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { openSockets, until } from '../test/wait.ts';
import type { DnsSocketError } from './errors.ts';
import { closeFd, localPort } from './fd.ts';
import { unixFdsMax, unixMessageBytesMax } from './limits.ts';
import { createListener } from './listener.ts';
import {
  type PeerCredentials,
  peerCredentials,
  type UnixMessage,
  UnixSeqpacket,
  type UnixSeqpacketServer,
} from './unix-seqpacket.ts';

const listener = {
  family: 4,
  protocol: 'udp',
  port: 0,
  mark: 0,
  markMask: 0,
  redirectMark: 0,
} as const;

/** A server that records what its connections do. */
class Recorder implements Disposable {
  readonly messages: UnixMessage[] = [];
  readonly connections: UnixSeqpacket[] = [];
  readonly peers: PeerCredentials[] = [];
  readonly errors: DnsSocketError[] = [];
  ends = 0;
  readonly server: UnixSeqpacketServer;

  constructor(path: string) {
    this.server = UnixSeqpacket.listen(path, {
      mode: 0o660,
      onConnection: (peer) => {
        this.peers.push(peer);
        return {
          onOpen: (connection) => void this.connections.push(connection),
          onMessage: (message) => void this.messages.push(message),
          onEnd: () => void (this.ends += 1),
          onError: (error) => void this.errors.push(error),
        };
      },
    });
  }

  [Symbol.dispose](): void {
    this.server.close();
    for (const connection of this.connections) connection.close();
    for (const { fds } of this.messages) for (const fd of fds) closeFd(fd);
  }
}

const silent = { onMessage: () => {}, onEnd: () => {} };

describe('UnixSeqpacket', () => {
  let directory = '';
  let path = '';
  let socketsBefore = 0;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'tandem-unix-'));
    path = join(directory, 'link');
    socketsBefore = openSockets();
  });
  after(async () => {
    await until(() => openSockets() === socketsBefore, 'every socket is closed');
    rmSync(directory, { recursive: true });
  });

  test('messages keep their borders, both ways; the path has its mode and goes away', async () => {
    using recorder = new Recorder(path);
    assert.equal(statSync(path).mode & 0o777, 0o660);
    const got: string[] = [];
    using client = UnixSeqpacket.connect(path, {
      onMessage: async ({ bytes }) => {
        await Promise.resolve(); // promises work in these callbacks
        got.push(Buffer.from(bytes).toString());
      },
      onEnd: () => {},
    });
    for (const text of ['a', 'bb', 'ccc']) assert.ok(client.send(Buffer.from(text)));
    assert.ok(client.send(new Uint8Array(unixMessageBytesMax).fill(7)));
    await until(() => recorder.messages.length === 4, 'four messages are here');
    assert.deepEqual(
      recorder.messages.map(({ bytes }) => bytes.length),
      [1, 2, 3, unixMessageBytesMax],
    );
    assert.equal(recorder.messages[3]?.bytes.at(-1), 7);
    recorder.connections[0]?.send(Buffer.from('back'));
    await until(() => got.length === 1, 'the answer is here');
    assert.deepEqual(got, ['back']);
    client.close();
    client.close();
    assert.throws(() => client.send(Buffer.from('x')), { errnoName: 'EPIPE' });
    await until(() => recorder.ends === 1, 'the end is seen');
    recorder.server.close();
    assert.equal(existsSync(path), false);
  });

  test('descriptors arrive as new fds of the same socket', async () => {
    using recorder = new Recorder(path);
    using client = UnixSeqpacket.connect(path, silent);
    const fds = Array.from({ length: unixFdsMax }, () => createListener(listener));
    const ports = fds.map(localPort);
    client.send(Buffer.from('x'), fds);
    for (const fd of fds) closeFd(fd);
    await until(() => recorder.messages.length === 1, 'the message is here');
    assert.deepEqual(recorder.messages[0]?.fds.map(localPort), ports);
    assert.throws(() => client.send(Buffer.from('x'), [1_000_000]), { errnoName: 'EBADF' });
  });

  test('a killed peer is an end after its last message, and its credentials are known', async () => {
    using recorder = new Recorder(path);
    const script = new URL('../test/link-peer.ts', import.meta.url).pathname;
    const peer = spawn(process.execPath, ['--conditions=@tandem/source', script, path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(peer.stdout, 'data');
    // Unread bytes on its side make the kernel answer ECONNRESET before the end.
    await until(() => recorder.connections.length === 1, 'it is connected');
    recorder.connections[0]?.send(Buffer.from('unread'));
    peer.kill('SIGKILL');
    await until(() => recorder.ends === 1, 'its death is seen');
    assert.deepEqual(recorder.peers, [{ pid: peer.pid, uid: 0, gid: 0 }]);
    assert.equal(recorder.messages.length, 1);
    const [message] = recorder.messages;
    assert.equal(Buffer.from(message?.bytes ?? []).toString(), `hello from ${peer.pid}`);
    assert.ok(localPort(message?.fds[0] as number) > 0, 'its socket outlives it');
  });

  test('a peer that does not read fills its queue, and send says so', async () => {
    using recorder = new Recorder(path);
    using client = UnixSeqpacket.connect(path, silent);
    await until(() => recorder.connections.length === 1, 'it is connected');
    let sent = 0;
    while (client.send(new Uint8Array(1000))) sent += 1;
    assert.ok(sent > 10);
    await until(() => recorder.messages.length === sent, 'all that was taken arrives');
    assert.ok(client.send(Buffer.from('again')));
  });

  test('listen replaces an abandoned path, not a live one nor another file', async () => {
    using recorder = new Recorder(path);
    assert.throws(() => new Recorder(path), { errnoName: 'EADDRINUSE' });
    recorder.server.close();
    const script = `
      import { UnixSeqpacket } from '${new URL('./unix-seqpacket.ts', import.meta.url).href}';
      UnixSeqpacket.listen(process.argv[1], { mode: 0o600, onConnection: () => null });
      process.kill(process.pid, 'SIGKILL');`;
    const args = ['--conditions=@tandem/source', '--input-type=module', '-e', script, path];
    await once(spawn(process.execPath, args, { stdio: 'inherit' }), 'exit');
    assert.ok(existsSync(path));
    using successor = new Recorder(path);
    UnixSeqpacket.connect(path, silent).close();
    successor.server.close();
    writeFileSync(path, 'a file');
    assert.throws(() => new Recorder(path), { errnoName: 'EADDRINUSE' });
    rmSync(path);
    assert.throws(() => UnixSeqpacket.connect(path, silent), { errnoName: 'ENOENT' });
  });

  test('onConnection may refuse, and a server closes within it', async () => {
    let asked = 0;
    const server = UnixSeqpacket.listen(path, {
      mode: 0o600,
      onConnection: () => {
        asked += 1;
        if (asked === 2) server.close();
        return null;
      },
    });
    let ends = 0;
    const clients = [0, 1].map(() =>
      UnixSeqpacket.connect(path, { onMessage: () => {}, onEnd: () => void (ends += 1) }),
    );
    await until(() => ends === 2, 'both are refused');
    assert.equal(asked, 2);
    for (const client of clients) client.close();
  });

  test('out of descriptors: a connection is refused, and the loop does not spin', async () => {
    const script = `
      import { UnixSeqpacket } from '${new URL('./unix-seqpacket.ts', import.meta.url).href}';
      import { duplicateFd } from '${new URL('./fd.ts', import.meta.url).href}';
      const errors = [];
      UnixSeqpacket.listen(process.argv[1], {
        mode: 0o600,
        onConnection: () => null,
        onError: (error) => errors.push(error.errnoName),
      });
      try { for (;;) duplicateFd(0); } catch (error) { process.stdout.write(error.errnoName + ' '); }
      let cpu = process.cpuUsage();
      setTimeout(() => {
        const { user, system } = process.cpuUsage(cpu);
        process.stdout.write(errors.join() + ' ' + (user + system < 150_000), () => process.exit(0));
      }, 300);`;
    const child = spawn(
      'sh',
      [
        '-c',
        'ulimit -n 64 && exec "$0" "$@"',
        process.execPath,
        '--conditions=@tandem/source',
        '--input-type=module',
        '-e',
        script,
        path,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    await until(() => text === 'EMFILE ', 'it has run out');
    let ends = 0;
    using client = UnixSeqpacket.connect(path, {
      onMessage: () => {},
      onEnd: () => void (ends += 1),
    });
    await until(() => ends === 1, 'the connection is refused');
    assert.throws(() => client.send(Buffer.from('x')), { errnoName: 'EPIPE' });
    await once(child, 'close');
    assert.equal(text, 'EMFILE EMFILE true');
    rmSync(path);
  });

  test('credentials are asked of sockets only', () => {
    assert.throws(() => peerCredentials(0xffff), { errnoName: 'EBADF' });
    const fd = createListener(listener);
    assert.throws(() => peerCredentials(fd), { errnoName: 'ENOTCONN' });
    closeFd(fd);
  });
});
