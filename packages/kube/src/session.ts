// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One HTTP/2 connection to the API server for all watches of a process. A connection that does not answer a PING is
 * given up; one that the server is about to end (GOAWAY) carries what it carries, and requests go to the next.
 */

import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type SecureClientSessionOptions,
} from 'node:http2';
import { setTimeout as delay } from 'node:timers/promises';
import { Backoff } from './backoff.ts';
import type { KubeEndpoint } from './endpoint.ts';
import {
  connectBackoffMaxMs,
  connectionWindowBytes,
  connectTimeoutMs,
  headersTimeoutMs,
  pingIntervalMs,
  pingTimeoutMs,
  reconnectSpreadMs,
  streamWindowBytes,
} from './limits.ts';

export interface KubeResponse {
  readonly status: number;
  /** Seconds of the header `retry-after`, in ms; 0: none. */
  readonly retryAfterMs: number;
  readonly contentType: string;
  /** To be read to its end, or closed. */
  readonly body: ClientHttp2Stream;
}

export interface KubeRequest {
  readonly path: string;
  readonly accept: string;
  readonly signal: AbortSignal;
  /** Default GET. */
  readonly method?: 'GET' | 'POST' | 'PUT' | 'PATCH';
  /** Content of the request, with its media type. */
  readonly content?: { readonly type: string; readonly text: string };
  /** Asked when nothing but the send is left to do: a connection may have been waited for. */
  readonly mayBegin?: () => boolean;
}

export interface KubeSessionOptions {
  readonly endpoint: KubeEndpoint;
  /** Default `tandem`. */
  readonly userAgent?: string;
  /** How far apart processes come back after a connection was lost, ms. */
  readonly spreadMs?: number;
  readonly pingIntervalMs?: number;
  readonly pingTimeoutMs?: number;
}

/** There is no connection; `cause`: the reason. The caller has already waited for the next attempt, or was stopped. */
export class NotConnected extends Error {}

/** `mayBegin` said no: nothing was sent. */
export class NotBegun extends Error {}

export class KubeSession {
  readonly counters = { connections: 0, lost: 0, refused: 0, requests: 0 };
  readonly #o: KubeSessionOptions;
  readonly #backoff = new Backoff(connectBackoffMaxMs);
  /** Living ones, the one for new requests among them. */
  readonly #sessions = new Set<ClientHttp2Session>();
  #current: ClientHttp2Session | null = null;
  #connecting: Promise<ClientHttp2Session> | null = null;
  #wasConnected = false;
  readonly #closed = new AbortController();

  constructor(options: KubeSessionOptions) {
    this.#o = options;
  }

  /** @throws NotConnected; NotBegun; Error: no answer in time, or `signal` was aborted */
  async request(request: KubeRequest): Promise<KubeResponse> {
    const { path, accept, signal, method = 'GET', content } = request;
    const session = await unlessAborted(this.#session(), signal);
    signal.throwIfAborted();
    const authorization = this.#o.endpoint.authorization();
    if (request.mayBegin?.() === false) throw new NotBegun(`${method} ${path} was not sent`);
    this.counters.requests += 1;
    const body = session.request({
      [constants.HTTP2_HEADER_METHOD]: method,
      [constants.HTTP2_HEADER_PATH]: path,
      accept,
      'user-agent': this.#o.userAgent ?? 'tandem',
      ...(content === undefined ? {} : { 'content-type': content.type }),
      ...(authorization === null ? {} : { authorization }),
    });
    if (content !== undefined) body.end(content.text);
    const cancel = (): void => body.close(constants.NGHTTP2_CANCEL);
    signal.addEventListener('abort', cancel, { once: true });
    body.once('close', () => signal.removeEventListener('abort', cancel));
    return { ...responseOf(await headersOf(body)), body };
  }

  close(): void {
    this.#closed.abort();
    for (const session of this.#sessions) session.destroy();
  }

  #session(): Promise<ClientHttp2Session> {
    const current = this.#current;
    if (current !== null && !current.closed && !current.destroyed) return Promise.resolve(current);
    this.#connecting ??= this.#connect().finally(() => (this.#connecting = null));
    return this.#connecting;
  }

  async #connect(): Promise<ClientHttp2Session> {
    // After a loss all processes of the cluster come at once, but for this.
    const spreadMs = this.#o.spreadMs ?? reconnectSpreadMs;
    if (this.#wasConnected) await this.#wait(Math.random() * spreadMs);
    this.#wasConnected = false;
    if (this.#closed.signal.aborted) {
      throw new NotConnected('', { cause: new Error('the session is closed') });
    }
    try {
      const session = await this.#open();
      this.#backoff.reset();
      this.#wasConnected = true;
      this.#current = session;
      return session;
    } catch (error) {
      this.counters.refused += 1;
      await this.#wait(this.#backoff.next());
      throw notConnected(error);
    }
  }

  /** Connects before a request needs it, as often as it takes: each attempt that fails has waited. */
  async #replace(): Promise<void> {
    while (!this.#closed.signal.aborted) {
      try {
        // oxlint-disable-next-line no-await-in-loop -- one attempt after the other
        await this.#session();
        return;
      } catch {
        // Counted.
      }
    }
  }

  /** Ends early when the session is closed. */
  async #wait(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#closed.signal }).catch(() => undefined);
  }

  async #open(): Promise<ClientHttp2Session> {
    const { url } = this.#o.endpoint;
    const session = connect(url, {
      ...securityOf(this.#o.endpoint),
      settings: { initialWindowSize: streamWindowBytes },
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      session.destroy(new Error(`${url} does not answer within ${connectTimeoutMs} ms`));
    }, connectTimeoutMs);
    session.once('connect', () => resolve());
    session.once('close', () => reject(new Error(`${url} closed the connection`)));
    session.on('error', reject);
    this.#sessions.add(session);
    session.once('close', () => this.#onClosed(session));
    try {
      await promise;
    } finally {
      clearTimeout(timer);
    }
    this.counters.connections += 1;
    session.setLocalWindowSize(connectionWindowBytes);
    // The open watches are served on for up to a minute: meanwhile all processes of the cluster find another server, spread over
    // `reconnectSpreadMs`.
    session.once('goaway', () => {
      if (this.#current !== session) return;
      this.#current = null;
      void this.#replace();
    });
    this.#keepAsking(session);
    return session;
  }

  #onClosed(session: ClientHttp2Session): void {
    this.#sessions.delete(session);
    if (this.#current !== session) return;
    this.#current = null;
    this.counters.lost += 1;
  }

  /**
   * Ends the session when nothing has come for a while, and a PING stays without an answer. What comes meanwhile is an answer
   * too: that of a PING waits behind a long list. One after GOAWAY takes no PING, which says nothing.
   */
  #keepAsking(session: ClientHttp2Session): void {
    const {
      pingIntervalMs: intervalMs = pingIntervalMs,
      pingTimeoutMs: timeoutMs = pingTimeoutMs,
    } = this.#o;
    let seenBytes = 0;
    const hasHeard = (): boolean => {
      const bytes = session.socket?.bytesRead ?? 0;
      const isNew = bytes !== seenBytes;
      seenBytes = bytes;
      return isNew;
    };
    let overdue: NodeJS.Timeout | undefined;
    const wait = (): void => {
      const sinceMs = performance.now();
      overdue = setTimeout(() => {
        if (session.closed || session.destroyed) return;
        // A process that was busy for so long has read nothing either.
        const wasBusy = performance.now() - sinceMs > timeoutMs * 1.5;
        if (hasHeard() || wasBusy) wait();
        else session.destroy(new Error('the API server answers no PING'));
      }, timeoutMs);
    };
    const timer = setInterval(() => {
      if (session.closed || session.destroyed || hasHeard() || overdue !== undefined) return;
      wait();
      session.ping(() => {
        clearTimeout(overdue);
        overdue = undefined;
      });
    }, intervalMs);
    session.once('close', () => {
      clearInterval(timer);
      clearTimeout(overdue);
    });
  }
}

const notConnected = (cause: unknown): NotConnected =>
  new NotConnected('there is no connection to the API server', { cause });

/** An attempt to connect takes longer than a caller may wait, who may also be stopped meanwhile. */
async function unlessAborted<T>(connecting: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(notConnected(signal.reason));
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([aborted, connecting]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function securityOf({ ca, certificate }: KubeEndpoint): SecureClientSessionOptions {
  const trusted = ca();
  return {
    ALPNProtocols: ['h2'],
    ...(trusted === null ? {} : { ca: trusted }),
    ...certificate?.(),
  };
}

async function headersOf(body: ClientHttp2Stream): Promise<IncomingHttpHeaders> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingHttpHeaders>();
  const timer = setTimeout(() => {
    reject(new Error(`the API server sends no answer within ${headersTimeoutMs} ms`));
    body.close(constants.NGHTTP2_CANCEL);
  }, headersTimeoutMs);
  body.once('response', resolve);
  // Kept: a stream that fails after its headers ends, which its reader sees.
  body.on('error', reject);
  body.once('close', () => reject(new Error('the stream was closed before its answer')));
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

function responseOf(headers: IncomingHttpHeaders): Omit<KubeResponse, 'body'> {
  const seconds = Number(headers['retry-after'] ?? 0);
  return {
    status: Number(headers[':status'] ?? 0),
    retryAfterMs: Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : 0,
    contentType: String(headers['content-type'] ?? ''),
  };
}
