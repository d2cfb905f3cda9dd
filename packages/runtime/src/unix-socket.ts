// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Listening on a unix socket that only its owner and one group can reach (threat T17): directory 0750,
// socket 0660 from the moment it exists, a stale socket file removed only if no process listens on it, and the
// uid of every peer known from the kernel.

import { chmodSync, chownSync, lstatSync, mkdirSync, type Stats, unlinkSync } from 'node:fs';
import net from 'node:net';
import { dirname } from 'node:path';
import { type PeerCredentials, peerCredentials } from '@tandem/dns-sockets/unix-seqpacket';
import { listening } from './listen.ts';
import { TandemError } from './tandem-error.ts';

/** sun_path of sockaddr_un, without the final zero. */
export const socketPathBytesMax = 107;

const directoryMode = 0o750;
const socketUmask = 0o117;
const writableByOthers = 0o002;
const probeTimeoutMs = 1000;
const listenBacklog = 64;

export interface UnixListenOptions {
  /** Absolute path of the socket. */
  readonly path: string;
  /** Group that may connect, and enter the directory if it is made here. Default: the process's own. */
  readonly groupId?: number;
}

function lstatOrNull(path: string): Stats | null {
  return lstatSync(path, { throwIfNoEntry: false }) ?? null;
}

function pathError(path: string, problem: string): TandemError {
  return new TandemError('TANDEM_SOCKET_PATH', `cannot listen on ${path}: ${problem}`, {
    facts: { path },
  });
}

/** Makes the directory 0750, or checks one that is there: who can write to it can replace the socket. */
function prepareDirectory(options: UnixListenOptions): void {
  const directory = dirname(options.path);
  // Not the directories above: Node.js' recursive mkdir does not end where one of them takes no entry.
  if (lstatOrNull(directory) === null) {
    mkdirSync(directory);
    chmodSync(directory, directoryMode);
    if (options.groupId !== undefined) chownSync(directory, -1, options.groupId);
  }
  const problem = directoryProblem(directory, []);
  if (problem !== null) throw pathError(options.path, problem);
}

/** Why a socket in `directory` cannot be trusted; null: it can. Owners: root, this process, `uids`. */
export function directoryProblem(directory: string, uids: readonly number[]): string | null {
  const stats = lstatOrNull(directory);
  if (stats === null) return `${directory} does not exist`;
  if (!stats.isDirectory()) return `${directory} is not a directory`;
  if ((stats.mode & writableByOthers) !== 0) return `${directory} is writable by everybody`;
  const owners = new Set([0, process.getuid?.() ?? 0, ...uids]);
  return owners.has(stats.uid) ? null : `${directory} belongs to uid ${stats.uid}`;
}

/** Result of a connection attempt to a path. */
async function probe(path: string): Promise<'listening' | 'stale' | 'absent' | Error> {
  const { promise, resolve } = Promise.withResolvers<'listening' | 'stale' | 'absent' | Error>();
  const socket = net.connect({ path });
  socket.setTimeout(probeTimeoutMs, () => resolve('listening'));
  socket.once('connect', () => resolve('listening'));
  socket.once('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ECONNREFUSED') resolve('stale');
    else if (error.code === 'ENOENT') resolve('absent');
    else if (error.code === 'EAGAIN') resolve('listening');
    else resolve(error);
  });
  try {
    return await promise;
  } finally {
    socket.destroy();
  }
}

async function removeStaleSocket(path: string): Promise<void> {
  const stats = lstatOrNull(path);
  if (stats === null) return;
  if (!stats.isSocket()) throw pathError(path, 'there is a file that is no socket');
  const found = await probe(path);
  if (found === 'listening') {
    throw new TandemError('TANDEM_SOCKET_IN_USE', `another process listens on ${path}`, {
      facts: { path },
    });
  }
  if (found instanceof Error) throw TandemError.from(found, `probe ${path}`);
  if (found === 'stale') unlinkSync(path);
}

/**
 * Makes `server` listen on the socket. Main thread only: the mode is set by the umask, for the moment of
 * bind, so that the socket is never wider than 0660.
 * @throws TandemError TANDEM_SOCKET_IN_USE, TANDEM_SOCKET_PATH, TANDEM_SYSTEM
 */
export async function listenUnix(server: net.Server, options: UnixListenOptions): Promise<void> {
  const { path } = options;
  if (!path.startsWith('/')) throw pathError(path, 'the path is not absolute');
  if (Buffer.byteLength(path) > socketPathBytesMax) {
    throw pathError(path, `the path is longer than ${socketPathBytesMax} bytes`);
  }
  try {
    prepareDirectory(options);
    await removeStaleSocket(path);
    await listening(server, () => {
      // Node binds within the call.
      const umask = process.umask(socketUmask);
      try {
        server.listen({ path, backlog: listenBacklog });
      } finally {
        process.umask(umask);
      }
    });
    if (options.groupId !== undefined) chownSync(path, -1, options.groupId);
  } catch (error) {
    server.close();
    throw TandemError.from(error, `listen on ${path}`);
  }
}

/** Node's handle of a socket, of which only the number of its descriptor is of use here. */
interface SocketHandle {
  readonly _handle?: { readonly fd?: number } | null;
}

/** Peer of an accepted unix connection; null when it has closed already. */
export function socketPeer(socket: net.Socket): PeerCredentials | null {
  const fd = (socket as unknown as SocketHandle)._handle?.fd;
  if (fd === undefined || fd < 0) return null;
  return peerCredentials(fd);
}
