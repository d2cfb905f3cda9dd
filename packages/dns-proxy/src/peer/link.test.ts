// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { agentMember, proxyMember } from '@tandem/datapath/member';
import { closeFd } from '@tandem/dns-sockets/fd';
import { type UnixMessage, UnixSeqpacket } from '@tandem/dns-sockets/unix-seqpacket';
import { waitFor } from '@tandem/testing/wait';
import { decodeHeavy, decodeHello, encodeHeavy, encodeHello } from './hello.ts';
import { PeerLink, type PeerLinkOptions } from './link.ts';
import { unixPeerSockets } from './peer-sockets.ts';

interface Bed {
  readonly path: string;
  /** Events of the agent's link, in order. */
  readonly heard: string[];
  /** Resolves when it has said so much. */
  readonly hears: (count: number) => Promise<void>;
  readonly fds: readonly number[];
}

/** The agent's end, over the kernel's sockets. */
async function withLink(run: (bed: Bed) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'link-'));
  const path = join(directory, 'peer.sock');
  const fds = [0, 1, 2, 3, 4, 5].map(() => openSync('/dev/null', 'r'));
  const heard: string[] = [];
  let waiting: { readonly count: number; readonly resolve: () => void } | null = null;
  const hear = (what: string): void => {
    heard.push(what);
    if (waiting !== null && heard.length >= waiting.count) waiting.resolve();
  };
  const options: PeerLinkOptions = {
    sockets: unixPeerSockets(path, process.getgid?.() ?? 0),
    after: (ms, work) => void setTimeout(work, ms).unref(),
    closeFd,
    role: 'listen',
    member: agentMember,
    allowedUids: [process.getuid?.() ?? 0],
    listeners: () => fds,
    onLinked: ({ member, listeners }, holdsOurs) => {
      for (const fd of listeners) closeFd(fd);
      hear(`linked ${member}, ${listeners.length} listeners, ${holdsOurs ? 'alive' : 'dead'}`);
      return (heavy) => {
        for (const fd of heavy) closeFd(fd);
        hear(`${heavy.length} more`);
      };
    },
    onLost: (member) => hear(`lost ${member}`),
    onRefused: () => hear('refused'),
  };
  const link = new PeerLink(options);
  const hears = async (count: number): Promise<void> => {
    if (heard.length >= count) return;
    await new Promise<void>((resolve) => {
      waiting = { count, resolve };
    });
  };
  try {
    link.start();
    await run({ path, heard, hears, fds });
  } finally {
    link.stop();
    for (const fd of fds) closeSync(fd);
    rmSync(directory, { recursive: true });
  }
}

function connectAs(member: number, { path, fds }: Bed): UnixSeqpacket {
  const socket = UnixSeqpacket.connect(path, {
    onMessage: (message) => {
      for (const fd of message.fds) closeFd(fd);
    },
    onEnd: () => undefined,
  });
  const hello = encodeHello(member, fds);
  socket.send(hello.bytes, hello.fds);
  return socket;
}

test('a life that died before it was accepted leaves its listeners', async () => {
  await withLink(async (bed) => {
    connectAs(proxyMember, bed).close();
    await bed.hears(2);
    assert.deepEqual(bed.heard, ['linked 1, 4 listeners, dead', 'lost 1']);
  });
});

test('a later life has linked when the former connection ends: nobody is lost', async () => {
  await withLink(async (bed) => {
    const former = connectAs(proxyMember, bed);
    await bed.hears(1);
    const later = connectAs(proxyMember, bed);
    await bed.hears(2);
    former.close();
    connectAs(agentMember, bed).close(); // no other member: what it says comes after the end of the former
    await bed.hears(3);
    later.close();
    await bed.hears(4);
    assert.deepEqual(bed.heard, [
      ...['linked 1, 4 listeners, alive', 'linked 1, 4 listeners, alive'],
      ...['refused', 'lost 1'],
    ]);
  });
});

/** Says hello as `version`, then `more`; what comes back until the end of the link. */
async function speak(
  bed: Bed,
  version: number,
  more: readonly UnixMessage[],
): Promise<readonly UnixMessage[]> {
  const got: UnixMessage[] = [];
  const hello = encodeHello(proxyMember, bed.fds);
  new DataView(hello.bytes.buffer).setUint32(4, version, true);
  const before = bed.heard.length;
  const socket = UnixSeqpacket.connect(bed.path, {
    onMessage: (message) => {
      for (const fd of message.fds) closeFd(fd);
      got.push(message);
    },
    onEnd: () => undefined,
  });
  for (const { bytes, fds } of [hello, ...more]) socket.send(bytes, fds);
  await bed.hears(before + 1 + more.length);
  await waitFor(() => got.length >= version, { what: 'what the link says' });
  socket.close();
  await bed.hears(before + 2 + more.length);
  return got;
}

test('a member of version 2 gets the listeners for pods that ask much, and gives its own; one of version 1 not', async () => {
  await withLink(async (bed) => {
    const heavy = encodeHeavy(proxyMember, bed.fds) as UnixMessage;
    const [hello, second, ...rest] = await speak(bed, 2, [heavy]);
    assert.equal(decodeHello(hello as UnixMessage, proxyMember)?.listeners.length, 4);
    assert.equal(decodeHeavy(second as UnixMessage, agentMember)?.length, 2);
    assert.deepEqual(rest, []);
    const former = await speak(bed, 1, []);
    assert.equal(former.length, 1);
    assert.deepEqual(bed.heard, [
      ...['linked 1, 4 listeners, alive', '2 more', 'lost 1'],
      ...['linked 1, 4 listeners, alive', 'lost 1'],
    ]);
  });
});

test('a third message is refused, and one of another member', async () => {
  await withLink(async (bed) => {
    const heavy = encodeHeavy(proxyMember, bed.fds) as UnixMessage;
    const foreign = encodeHeavy(agentMember, bed.fds) as UnixMessage;
    const first = connectAs(proxyMember, bed);
    first.send(heavy.bytes, heavy.fds);
    first.send(heavy.bytes, heavy.fds);
    await bed.hears(4);
    connectAs(proxyMember, bed).send(foreign.bytes, foreign.fds);
    await bed.hears(7);
    const refused = ['refused', 'lost 1'];
    assert.deepEqual(bed.heard, [
      ...['linked 1, 4 listeners, alive', '2 more', ...refused],
      ...['linked 1, 4 listeners, alive', ...refused],
    ]);
  });
});
