// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A test's hands inside a network namespace: connections, datagrams, servers, raw frames, captures.
 * Failures of the network are `ProbeError`s with an errno's name; all waits are bounded.
 */

import {
  bulkResult,
  bytesOf,
  connectArguments,
  exchangeArguments,
  socketArguments,
  streamResult,
  udpResult,
} from './probe-messages.ts';
import { hexBytes, type Inside, ProbeProcess } from './probe-process.ts';
import {
  type BlastOptions,
  type BulkOptions,
  type BulkResult,
  type Captured,
  type CaptureOptions,
  type ConnectOptions,
  type ExchangeOptions,
  type ListenOptions,
  type PourOptions,
  type PourResult,
  type Served,
  type SightOptions,
  type SocketOptions,
  type StreamResult,
  type UdpOptions,
  type UdpResult,
} from './probe-types.ts';

export class Probe implements AsyncDisposable {
  readonly #process: ProbeProcess;

  private constructor(process: ProbeProcess) {
    this.#process = process;
  }

  /** Starts a probe in the namespace; ready at once. */
  static start(namespace: Inside): Probe {
    return new Probe(new ProbeProcess(namespace));
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Sends one datagram and waits for `want` replies (default 1), from whomever they come. */
  async udp(options: UdpOptions): Promise<UdpResult> {
    const { to, port, data, want = 1 } = options;
    const args = { ...socketArguments(options), to, port, data: bytesOf(data), want };
    return udpResult(await this.#process.request('udp', args));
  }

  /** Sends the data once, for which `KEPT_DATA` then stands: large data that is sent often. */
  async keep(data: Uint8Array): Promise<void> {
    await this.#process.request('keep', { data });
  }

  /** One ICMP or ICMPv6 echo; ETIMEDOUT without a reply. */
  async ping(to: string, options: SocketOptions = {}): Promise<UdpResult> {
    const args = { ...socketArguments(options), to, data: bytesOf('tandem') };
    return udpResult(await this.#process.request('ping', args));
  }

  /** Connects, sends `data`, reads what is wanted, closes. With nothing wanted, connecting is enough. */
  async tcp(options: ConnectOptions): Promise<StreamResult> {
    return streamResult(await this.#process.request('tcp', connectArguments(options)));
  }

  /** Like `tcp`, but the connection stays open. */
  async connect(options: ConnectOptions): Promise<Stream> {
    const args = { ...connectArguments(options), keep: true };
    const answer = await this.#process.request('tcp', args);
    return new Stream(this.#process, answer.id, streamResult(answer));
  }

  /** A UDP "connection": several exchanges over one 5-tuple. */
  async associate(options: ConnectOptions): Promise<Stream> {
    const args = { ...connectArguments(options), keep: true, datagram: true };
    const answer = await this.#process.request('tcp', args);
    return new Stream(this.#process, answer.id, streamResult(answer));
  }

  /** A server; mode "who" (the default) answers "PEER PORT LOCAL PORT\n", see `parseWho`. */
  async listen(options: ListenOptions): Promise<Listener> {
    const { protocol, address, port = 0, mode = 'who', data, reusePortMember } = options;
    const args = {
      ...socketArguments({ ...options, source: address, sourcePort: port }),
      protocol,
      mode,
      data,
      member: reusePortMember,
    };
    const answer = await this.#process.request('listen', args);
    return new Listener(this.#process, answer.id, answer.number('localPort'));
  }

  /** Holds a port without reading from it; with `uid` as that user, without capabilities. */
  async bind(options: ListenOptions): Promise<Handle> {
    const { protocol, address, port = 0 } = options;
    const args = {
      ...socketArguments({ ...options, source: address, sourcePort: port }),
      protocol,
    };
    return new Handle(this.#process, (await this.#process.request('bind', args)).id);
  }

  /** Sends a frame with its Ethernet header, `count` times back to back. */
  async frame(
    data: Uint8Array,
    { interface: name = 'eth0', count = 1 }: { interface?: string; count?: number } = {},
  ): Promise<void> {
    await this.#process.request('frame', { interface: name, data, count });
  }

  /** Sends frames back to back. What the kernel refuses to send (too short, too long) is counted. */
  async frames(
    frames: readonly Uint8Array[],
    { interface: name = 'eth0' }: { interface?: string } = {},
  ): Promise<{ sent: number; refused: number }> {
    const data = Buffer.concat(
      frames.flatMap((frame) => [Buffer.of(frame.length >> 8, frame.length & 0xff), frame]),
    );
    const answer = await this.#process.request('frames', { interface: name, data });
    return { sent: answer.number('sent'), refused: answer.number('refused') };
  }

  /** Sends a frame whose checksum over what follows `start` a device is to write `offset` behind it. */
  async partial(
    data: Uint8Array,
    { start, offset }: { readonly start: number; readonly offset: number },
  ): Promise<void> {
    await this.#process.request('partial', { interface: 'eth0', data, start, offset });
  }

  /** Sends a frame by PACKET_TX_RING: its skb has only 14 linear bytes. */
  async ring(
    data: Uint8Array,
    { interface: name = 'eth0' }: { interface?: string } = {},
  ): Promise<void> {
    await this.#process.request('ring', { interface: name, data });
  }

  /** Sends an IP packet with its header as given; the kernel routes it. */
  async raw(to: string, data: Uint8Array): Promise<void> {
    await this.#process.request('raw', { to, data });
  }

  /** Counts frames of an interface, both ways, from when this resolves. */
  async capture({
    interface: name = 'eth0',
    contains = '',
    payload = '',
  }: CaptureOptions = {}): Promise<Capture> {
    const args = { interface: name, data: bytesOf(contains), payload: bytesOf(payload) };
    return new Capture(this.#process, (await this.#process.request('capture', args)).id);
  }

  /** Remembers the numbers of packets that come from when this resolves; see `SightOptions`. */
  async sight(options: SightOptions): Promise<Sightings> {
    const { pattern, ...at } = options;
    const answer = await this.#process.request('sight', { ...at, data: pattern });
    return new Sightings(this.#process, answer.id);
  }

  /** Many datagrams or frames at a rate per second (0: as fast as possible). */
  async blast(options: BlastOptions): Promise<{ sent: number; failed: number; elapsedUs: number }> {
    const { data, count, rate = 0, counterAt = -1, randomAt = [], seed = 1 } = options;
    const target =
      'interface' in options
        ? { interface: options.interface }
        : { ...socketArguments(options), to: options.to, port: options.port };
    const answer = await this.#process.request('blast', {
      ...target,
      ...{ data: bytesOf(data), count, rate, counterAt, randomAt: randomAt.join(','), seed },
    });
    const [sent, failed] = [answer.number('sent'), answer.number('failed')];
    return { sent, failed, elapsedUs: answer.number('elapsedUs') };
  }

  /** Fresh names, each followed at once by a connection to the address in the reply. */
  async bulk(options: BulkOptions): Promise<BulkResult> {
    const { server, port = 53, type = 'A', timeoutMs, connectTimeoutMs, ...rest } = options;
    const answer = await this.#process.request('bulk', {
      ...rest,
      to: server,
      port,
      type,
      timeout: timeoutMs,
      connectTimeout: connectTimeoutMs,
    });
    return bulkResult(answer);
  }

  /** Connections of an attacker, for a time. */
  async pour(options: PourOptions): Promise<PourResult> {
    const { to, port, spread, connections, data, burst, pauseMs, lifeMs, seconds } = options;
    const answer = await this.#process.request('pour', {
      ...{ to, port, spread, connections, data, burst, unread: options.isUnread === true ? 1 : 0 },
      ...{ pause: pauseMs, life: lifeMs, timeout: Math.round(1000 * seconds) },
    });
    return {
      opened: answer.number('opened'),
      failed: answer.number('failed'),
      ended: answer.number('ended'),
      messages: answer.number('messages'),
      bytesRead: answer.number('bytesRead'),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
  }
}

/** A resource of the probe that outlives its request. */
export class Handle implements AsyncDisposable {
  protected readonly process: ProbeProcess;
  readonly #id: number;
  #isClosed = false;

  constructor(process: ProbeProcess, id: number) {
    this.process = process;
    this.#id = id;
  }

  get id(): number {
    return this.#id;
  }

  /** Closes; `reset` sends a TCP reset instead of a FIN. Closing twice, or what has ended, is no error. */
  async close({ reset = false }: { reset?: boolean } = {}): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // A stream that the peer reset, and a probe that has ended, are closed already.
    await this.process.request('close', { handle: this.#id, reset }).catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

export class Stream extends Handle {
  readonly opened: StreamResult;

  constructor(process: ProbeProcess, id: number, opened: StreamResult) {
    super(process, id);
    this.opened = opened;
  }

  async exchange(options: ExchangeOptions): Promise<StreamResult> {
    const args = { ...exchangeArguments(options), handle: this.id };
    return streamResult(await this.process.request('exchange', args));
  }
}

export class Listener extends Handle {
  readonly port: number;

  constructor(process: ProbeProcess, id: number, port: number) {
    super(process, id);
    this.port = port;
  }

  /** Queries that the server has received so far. */
  async served(): Promise<Served> {
    const answer = await this.process.request('served', { handle: this.id });
    return {
      accepted: answer.number('accepted'),
      refused: answer.number('refused'),
      datagrams: answer.number('datagrams'),
      bytes: answer.number('bytes'),
      open: answer.number('open'),
    };
  }
}

export class Capture extends Handle {
  /** The counts now, or once `count` frames have matched; ETIMEDOUT if they do not. */
  async captured({
    count = 0,
    timeoutMs = 2000,
  }: {
    count?: number;
    timeoutMs?: number;
  } = {}): Promise<Captured> {
    const args = { handle: this.id, count, timeout: timeoutMs };
    const answer = await this.process.request('captured', args);
    const outgoing = answer.all('outgoing');
    const partial = answer.all('partial');
    return {
      matched: answer.number('matched'),
      total: answer.number('total'),
      dropped: answer.number('dropped'),
      frames: answer.all('frame').map((text, i) => ({
        bytes: hexBytes(text),
        isOutgoing: outgoing[i] === '1',
        isChecksumPartial: partial[i] === '1',
      })),
    };
  }
}

/** Numbers of packets that came: the four octets behind a pattern. */
export class Sightings extends Handle {
  /** Events since the last call. Throws if some were lost, because the result is unknown then. */
  async seen(): Promise<number[]> {
    const answer = await this.process.request('sighted', { handle: this.id });
    const lost = answer.number('lost');
    if (lost > 0) throw new Error(`${lost} packets were not looked at`);
    const bytes = answer.bytes('numbers');
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return Array.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(4 * i));
  }
}

/** The answer of a server in mode "who": who it thinks asked, and at which address. */
export function parseWho(data: Uint8Array): {
  peer: string;
  peerPort: number;
  local: string;
  localPort: number;
} {
  const [peer = '', peerPort, local = '', localPort] = new TextDecoder()
    .decode(data)
    .trim()
    .split(' ');
  return { peer, peerPort: Number(peerPort), local, localPort: Number(localPort) };
}
