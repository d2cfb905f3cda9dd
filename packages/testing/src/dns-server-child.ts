// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The process of a scripted DNS server: `dns-server.ts` starts it inside a namespace and speaks to it
 * by Node's IPC channel. Arguments: the port, then the addresses to serve.
 */

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { DnsScript, type Reply, readQuestion } from './dns-script.ts';
import type { SeenQuery, ServerAnswer, ServerRequest } from './dns-server.ts';

const seenMax = 200_000;
const connectionBytesMax = 1 << 20;
/** Queries wait while a busy machine gives this process no time; the default holds some 300. */
const receiveBufferBytes = 4 << 20;
/** Time that `reset: 'answered'` gives another answer to come first. */
const answerWaitMs = 500;

let script = new DnsScript([]);
let seen: SeenQuery[] = [];
let total = 0;
let malformed = 0;

interface Client {
  readonly transport: 'udp' | 'tcp';
  readonly from: string;
  readonly fromPort: number;
  readonly to: string;
  readonly reply: (reply: Reply) => void;
}

function onQuery(message: Uint8Array, client: Client): void {
  total++;
  const question = readQuestion(message);
  if (question === null) {
    malformed++;
    return;
  }
  const { transport, from, fromPort, to, reply } = client;
  if (seen.length < seenMax) {
    const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
    const counts = [4, 6, 8, 10].map((at) => view.getUint16(at));
    const { name, sentName, type, id, flags, ednsBytes } = question;
    seen.push({
      name,
      sentName,
      type,
      id,
      flags,
      ednsBytes,
      counts,
      transport,
      from,
      fromPort,
      to,
    });
  }
  for (const scripted of script.replies(question, transport)) {
    if (scripted.delayMs > 0) setTimeout(reply, scripted.delayMs, scripted);
    else reply(scripted);
  }
}

async function serveUdp(address: string, port: number): Promise<void> {
  const type = address.includes(':') ? 'udp6' : 'udp4';
  const socket: UdpSocket = createSocket({
    type,
    ipv6Only: type === 'udp6',
    recvBufferSize: receiveBufferBytes,
  });
  socket.on('message', (message, peer) => {
    onQuery(message, {
      transport: 'udp',
      from: peer.address,
      fromPort: peer.port,
      to: address,
      reply: ({ bytes }) => {
        // A reply that cannot be sent is a lost reply.
        if (bytes !== null) socket.send(bytes, peer.port, peer.address, () => undefined);
      },
    });
  });
  socket.bind(port, address);
  await once(socket, 'listening');
}

async function serveTcp(address: string, port: number): Promise<void> {
  const server = createServer((socket) => {
    const state: ConnectionState = { answered: 0, waiting: null };
    socket.on('error', () => socket.destroy());
    readMessages(socket, (message) => {
      onQuery(message, {
        transport: 'tcp',
        from: socket.remoteAddress ?? '',
        fromPort: socket.remotePort ?? 0,
        to: address,
        reply: (reply) => replyByTcp(socket, state, reply),
      });
    });
  });
  server.listen({ port, host: address, ipv6Only: address.includes(':') });
  await once(server, 'listening');
}

function readMessages(socket: Socket, onMessage: (message: Uint8Array) => void): void {
  let rest: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    if (rest.length > connectionBytesMax) socket.destroy();
    while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
      const end = 2 + rest.readUInt16BE(0);
      onMessage(rest.subarray(2, end));
      rest = rest.subarray(end);
    }
  });
}

interface ConnectionState {
  answered: number;
  /** Half of it is sent, and the connection reset, with the first answer. */
  waiting: Uint8Array | null;
}

function replyByTcp(socket: Socket, state: ConnectionState, { bytes, reset }: Reply): void {
  if (bytes === null) {
    socket.destroy();
  } else if (reset === 'answered' && state.answered === 0) {
    state.waiting = bytes;
    setTimeout(resetIn, answerWaitMs, socket, bytes);
  } else if (reset !== false) {
    resetIn(socket, bytes);
  } else {
    writeMessage(socket, bytes);
    state.answered += 1;
    if (state.waiting !== null) resetIn(socket, state.waiting);
  }
}

/** Resets in the middle of a message; its length is that of the whole. */
function resetIn(socket: Socket, bytes: Uint8Array): void {
  writeMessage(socket, bytes, bytes.length >> 1);
  socket.resetAndDestroy();
}

function writeMessage(socket: Socket, bytes: Uint8Array, sent = bytes.length): void {
  const length = Buffer.from([bytes.length >> 8, bytes.length & 0xff]);
  if (socket.writable) socket.write(Buffer.concat([length, bytes.subarray(0, sent)]));
}

function onRequest(request: ServerRequest): ServerAnswer {
  if (request.kind === 'program') script = new DnsScript(request.rules);
  if (request.kind === 'clear') {
    seen = [];
    total = 0;
    malformed = 0;
  }
  const queries = request.kind === 'queries' ? seen : [];
  return { id: request.id, queries, total, malformed };
}

const [port = '53', ...addresses] = process.argv.slice(2);
process.on('message', (request: ServerRequest) => process.send?.(onRequest(request)));
process.on('disconnect', () => process.exit(0));
for (const address of addresses) {
  await serveUdp(address, Number(port));
  await serveTcp(address, Number(port));
}
process.send?.({ id: 0, queries: [], total: 0, malformed: 0 } satisfies ServerAnswer);
