// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The sockets of the peer link: whole messages with descriptors, and the end of the other process. */

import { chownSync, existsSync } from 'node:fs';
import {
  type PeerCredentials,
  UnixSeqpacket,
  type UnixSeqpacketEvents,
} from '@tandem/dns-sockets/unix-seqpacket';

export type PeerSocket = Pick<UnixSeqpacket, 'send' | 'close'>;

export interface PeerHandlers extends UnixSeqpacketEvents {
  /** Called when a connection was accepted. */
  readonly onOpen?: (socket: PeerSocket) => void;
}

export interface PeerServer {
  /** Whether a process that connects finds the socket. */
  isReachable(): boolean;
  /** Stops listening; connections live on. */
  close(): void;
}

export interface PeerSockets {
  /** `onConnection` returns null to refuse. @throws an error: another process still listens */
  listen(onConnection: (peer: PeerCredentials) => PeerHandlers | null): PeerServer;
  /** @throws an error: no process listens */
  connect(handlers: UnixSeqpacketEvents): PeerSocket;
}

/** Over a unix socket at `path` that the group may connect to. */
export function unixPeerSockets(path: string, groupId: number): PeerSockets {
  return {
    listen: (onConnection) => {
      const server = UnixSeqpacket.listen(path, { mode: 0o660, onConnection });
      try {
        // Until here only root could connect; others try again.
        chownSync(path, -1, groupId);
      } catch (error) {
        server.close();
        throw error;
      }
      return { isReachable: () => existsSync(path), close: () => server.close() };
    },
    connect: (handlers) => UnixSeqpacket.connect(path, handlers),
  };
}
