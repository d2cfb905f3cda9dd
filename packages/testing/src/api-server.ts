// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * An API server for tests of its clients: TLS and HTTP/2 on a loopback port, lists, watches and watch-lists of objects
 * that the test puts, and the faults that real ones show. Before it a relay, which can stop passing octets on as a
 * broken network does.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createSecureServer, type Http2Session, type ServerHttp2Stream } from 'node:http2';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

type Json = Readonly<Record<string, unknown>>;

export interface ApiObject extends Json {
  readonly metadata: Json & { readonly name: string; readonly namespace?: string };
}

export interface ApiRequest {
  readonly path: string;
  readonly query: URLSearchParams;
  readonly authorization: string;
}

/** Instead of the answer that would be right. */
export type Fault = (request: ApiRequest, stream: ServerHttp2Stream) => boolean;

interface Watch {
  readonly path: string;
  readonly query: URLSearchParams;
  readonly stream: ServerHttp2Stream;
}

export class ApiServer {
  readonly requests: ApiRequest[] = [];
  /** Accepted so far. */
  connections = 0;
  /** Answers a request itself when it gives true. */
  fault: Fault = () => false;
  hasWatchList = true;
  /** Paths that are served. */
  readonly #objects = new Map<string, Map<string, ApiObject>>();
  readonly #watches = new Set<Watch>();
  readonly #sessions = new Set<Http2Session>();
  readonly #relayed = new Set<net.Socket>();
  readonly #server;
  readonly #relay: net.Server;
  readonly #unix: net.Server;
  readonly #directory: string;
  #version = 100;
  /** Versions before it are gone. */
  #oldest = 0;

  private constructor(directory: string) {
    this.#directory = directory;
    this.#server = createSecureServer({
      cert: readFileSync(join(directory, 'cert.pem')),
      key: readFileSync(join(directory, 'key.pem')),
    });
    this.#server.on('session', (session) => {
      this.#sessions.add(session);
      session.once('close', () => this.#sessions.delete(session));
      session.on('error', () => undefined);
    });
    this.#server.on('stream', (stream, headers) => {
      stream.on('error', () => undefined);
      const url = new URL(String(headers[':path']), 'https://api');
      const request = {
        path: url.pathname,
        query: url.searchParams,
        authorization: headers.authorization ?? '',
      };
      this.requests.push(request);
      if (!this.fault(request, stream)) this.#answer(request, stream);
    });
    this.#relay = net.createServer((socket) => this.#pass(socket));
    this.#unix = net.createServer((socket) => this.#pass(socket));
  }

  /** `path`: a unix socket beside the port, for clients in other network namespaces. */
  static async start(path?: string): Promise<ApiServer> {
    const directory = mkdtempSync(join(tmpdir(), 'tandem-api-'));
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
        ...['-days', '2', '-subj', '/CN=api', '-addext', 'subjectAltName=IP:127.0.0.1'],
        ...['-keyout', join(directory, 'key.pem'), '-out', join(directory, 'cert.pem')],
      ],
      { stdio: 'ignore' },
    );
    const server = new ApiServer(directory);
    for (const each of [server.#server, server.#relay]) {
      const { promise, resolve } = Promise.withResolvers<void>();
      each.listen(0, '127.0.0.1', resolve);
      // oxlint-disable-next-line no-await-in-loop -- two
      await promise;
    }
    if (path !== undefined) {
      const { promise, resolve } = Promise.withResolvers<void>();
      server.#unix.listen(path, resolve);
      await promise;
    }
    return server;
  }

  get url(): string {
    return `https://127.0.0.1:${portOf(this.#relay)}`;
  }

  get ca(): Buffer {
    return readFileSync(join(this.#directory, 'cert.pem'));
  }

  /** For a client that reaches the server at `url`. */
  kubeconfig(url: string): string {
    const authority = this.ca.toString('base64');
    return JSON.stringify({
      ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'test' },
      clusters: [
        { name: 'test', cluster: { server: url, 'certificate-authority-data': authority } },
      ],
      users: [{ name: 'test', user: { token: 'test' } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
    });
  }

  /** Watches that are open. */
  get watching(): number {
    return this.#watches.size;
  }

  /** A kind begins to exist, by its path. */
  serve(...paths: readonly string[]): void {
    for (const path of paths) if (!this.#objects.has(path)) this.#objects.set(path, new Map());
  }

  /** A kind ends with its objects, and so do its watches. */
  unserve(path: string): void {
    this.#objects.delete(path);
    for (const watch of this.#watches) if (watch.path === path) watch.stream.end();
  }

  put(path: string, object: ApiObject): void {
    this.serve(path);
    const key = keyOf(object);
    const objects = this.#objects.get(path);
    const type = objects?.has(key) === true ? 'MODIFIED' : 'ADDED';
    const stored = this.#stamp(object);
    objects?.set(key, stored);
    this.#tell(path, type, stored);
  }

  remove(path: string, object: ApiObject): void {
    const stored = this.#objects.get(path)?.get(keyOf(object));
    if (stored === undefined) return;
    this.#objects.get(path)?.delete(keyOf(object));
    this.#tell(path, 'DELETED', this.#stamp(stored));
  }

  /** Changes what is there without telling the watches: as if they had been away. */
  removeSilently(path: string, object: ApiObject): void {
    this.#objects.get(path)?.delete(keyOf(object));
    this.#version += 1;
  }

  bookmark(): void {
    for (const { stream } of this.#watches) stream.write(this.#bookmark({}));
  }

  /** As after a restart: no version of before is known any more. */
  forgetVersions(): void {
    this.#version += 1;
    this.#oldest = this.#version;
  }

  endWatches(): void {
    for (const { stream } of this.#watches) stream.end();
  }

  /** As a server that is being shut down: what is open is served on. */
  goaway(): void {
    for (const session of this.#sessions) session.goaway();
  }

  /** As a server that was killed. */
  cut(): void {
    for (const socket of this.#relayed) socket.destroy();
  }

  /** Stops forwarding on the open connections without closing them, as a network that drops packets does. */
  freeze(): void {
    for (const socket of this.#relayed) {
      socket.unpipe();
      socket.pause();
    }
  }

  async stop(): Promise<void> {
    this.cut();
    for (const session of this.#sessions) session.destroy();
    for (const each of [this.#relay, this.#unix, this.#server]) {
      const { promise, resolve } = Promise.withResolvers<void>();
      each.close(() => resolve());
      // oxlint-disable-next-line no-await-in-loop -- two
      await promise;
    }
    rmSync(this.#directory, { recursive: true });
  }

  #pass(client: net.Socket): void {
    this.connections += 1;
    const server = net.connect(portOf(this.#server), '127.0.0.1');
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#relayed.add(from);
      from.pipe(to);
      from.on('error', () => undefined);
      from.once('close', () => {
        this.#relayed.delete(from);
        to.destroy();
      });
    }
  }

  #answer({ path, query }: ApiRequest, stream: ServerHttp2Stream): void {
    const objects = this.#objects.get(path);
    if (objects === undefined) {
      respondJson(stream, 404, {
        ...status(404, 'the server could not find the requested resource'),
        ...{ reason: 'NotFound', details: { name: path.split('/').at(-1) } },
      });
    } else if (query.get('watch') === null) {
      this.#list(objects, query, stream);
    } else {
      this.#watch(path, objects, query, stream);
    }
  }

  #list(
    objects: ReadonlyMap<string, ApiObject>,
    query: URLSearchParams,
    stream: ServerHttp2Stream,
  ): void {
    const from = Number(query.get('continue') ?? 0);
    const limit = Number(query.get('limit') ?? objects.size);
    const all = [...objects.values()].filter((object) => isSelected(query, object));
    const next = from + limit < all.length ? String(from + limit) : '';
    // Items of a list have neither apiVersion nor kind.
    const items = all.slice(from, from + limit).map((object) => {
      const fields = Object.entries(object);
      return Object.fromEntries(
        fields.filter(([name]) => name !== 'apiVersion' && name !== 'kind'),
      );
    });
    respondJson(stream, 200, {
      metadata: { resourceVersion: String(this.#version), continue: next },
      items,
    });
  }

  #watch(
    path: string,
    objects: ReadonlyMap<string, ApiObject>,
    query: URLSearchParams,
    stream: ServerHttp2Stream,
  ): void {
    const wantsList = query.get('sendInitialEvents') === 'true';
    stream.respond({ ':status': 200, 'content-type': 'application/json' });
    const since = Number(query.get('resourceVersion') ?? 0);
    if (wantsList && !this.hasWatchList) {
      stream.end(event('ERROR', status(500, 'RequestWatchProgress is disabled')));
      return;
    }
    if (!wantsList && since < this.#oldest) {
      stream.end(event('ERROR', status(410, `too old resource version: ${since}`)));
      return;
    }
    for (const object of objects.values()) {
      if (!isSelected(query, object)) continue;
      if (wantsList || Number(object.metadata['resourceVersion']) > since) {
        stream.write(event('ADDED', object));
      }
    }
    if (wantsList) stream.write(this.#bookmark({ 'k8s.io/initial-events-end': 'true' }));
    const watch = { path, query, stream };
    this.#watches.add(watch);
    stream.once('close', () => this.#watches.delete(watch));
  }

  #tell(path: string, type: string, object: ApiObject): void {
    for (const watch of this.#watches) {
      if (watch.path !== path || !isSelected(watch.query, object)) continue;
      watch.stream.write(event(type, object));
    }
  }

  #bookmark(annotations: Json): string {
    const metadata = { resourceVersion: String(this.#version), annotations };
    return event('BOOKMARK', { metadata });
  }

  #stamp(object: ApiObject): ApiObject {
    this.#version += 1;
    return {
      ...object,
      metadata: { ...object.metadata, resourceVersion: String(this.#version) },
    };
  }
}

/** By `spec.nodeName`, the field that the agent selects pods by; others select all. */
function isSelected(query: URLSearchParams, { spec }: ApiObject): boolean {
  const selector = /spec\.nodeName(!?=)([^,]*)/.exec(query.get('fieldSelector') ?? '');
  if (selector === null) return true;
  const nodeName = (spec as Json | undefined)?.['nodeName'] ?? '';
  return (nodeName === selector[2]) === (selector[1] === '=');
}

export function respondJson(stream: ServerHttp2Stream, code: number, body: Json): void {
  stream.respond({ ':status': code, 'content-type': 'application/json' });
  stream.end(JSON.stringify(body));
}

export function respondStatus(
  stream: ServerHttp2Stream,
  code: number,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  stream.respond({ ':status': code, 'content-type': 'application/json', ...headers });
  stream.end(JSON.stringify(status(code, message)));
}

function status(code: number, message: string): Json {
  return { kind: 'Status', apiVersion: 'v1', status: 'Failure', message, code };
}

function event(type: string, object: Json): string {
  return `${JSON.stringify({ type, object })}\n`;
}

function keyOf({ metadata }: ApiObject): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`;
}

function portOf(server: { address(): net.AddressInfo | string | null }): number {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new TypeError('not listening');
  return address.port;
}
