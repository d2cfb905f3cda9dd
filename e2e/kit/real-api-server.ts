// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * etcd and kube-apiserver on loopback ports, without anything else of Kubernetes: for what only the real server shows.
 * `directory` has the two programs.
 */

import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type RunningProcess, runShort, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';

const adminToken = 'admin';
const startTimeoutMs = 60_000;

export interface ApiAnswer {
  readonly status: number;
  /** Headers `warning`. */
  readonly warnings: readonly string[];
  readonly body: Readonly<Record<string, unknown>>;
}

export class RealApiServer implements AsyncDisposable {
  readonly url: string;
  readonly ca: Buffer;
  readonly #programs: string;
  readonly #directory: string;
  readonly #ports: { readonly api: number; readonly etcd: number; readonly peer: number };
  #etcd: RunningProcess | null = null;
  /** The one that was started last serves new connections. */
  readonly #servers: RunningProcess[] = [];
  /** Told to end: it may serve on for a minute. */
  readonly #ending: RunningProcess[] = [];

  private constructor(
    programs: string,
    directory: string,
    ports: readonly [number, number, number],
  ) {
    this.#programs = programs;
    this.#directory = directory;
    this.#ports = { api: ports[0], etcd: ports[1], peer: ports[2] };
    this.url = `https://127.0.0.1:${ports[0]}`;
    this.ca = readFileSync(join(directory, 'cert.pem'));
  }

  /** `programs`: directory of both; `options`: more of the API server's. */
  static async start(programs: string, ...options: readonly string[]): Promise<RealApiServer> {
    const directory = mkdtempSync(join(tmpdir(), 'tandem-apiserver-'));
    await runShort('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-days', '2', '-subj', '/CN=api', '-addext', 'subjectAltName=IP:127.0.0.1'],
      ...['-keyout', join(directory, 'key.pem'), '-out', join(directory, 'cert.pem')],
    ]);
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const key = privateKey.export({ type: 'pkcs1', format: 'pem' });
    writeFileSync(join(directory, 'accounts.pem'), key, { mode: 0o600 });
    writeFileSync(join(directory, 'tokens.csv'), `${adminToken},admin,1,"system:masters"\n`);
    const ports = [await freePort(), await freePort(), await freePort()] as const;
    const server = new RealApiServer(programs, directory, ports);
    await server.#startEtcd();
    await server.startServer(...options);
    return server;
  }

  /** Another one on the same port and etcd; those before serve the connections that they have. */
  async startServer(...options: readonly string[]): Promise<void> {
    const at = (name: string): string => join(this.#directory, name);
    const issuer = 'https://kubernetes.default.svc';
    const server = startProcess(join(this.#programs, 'kube-apiserver'), [
      `--etcd-servers=http://127.0.0.1:${this.#ports.etcd}`,
      ...['--bind-address=127.0.0.1', '--advertise-address=192.0.2.1', '--permit-port-sharing'],
      `--secure-port=${this.#ports.api}`,
      ...[`--tls-cert-file=${at('cert.pem')}`, `--tls-private-key-file=${at('key.pem')}`],
      ...['--authorization-mode=RBAC', `--token-auth-file=${at('tokens.csv')}`],
      ...['--disable-admission-plugins=ServiceAccount', `--service-account-issuer=${issuer}`],
      `--service-account-signing-key-file=${at('accounts.pem')}`,
      `--service-account-key-file=${at('accounts.pem')}`,
      ...['--service-cluster-ip-range=10.96.0.0/16', '--endpoint-reconciler-type=none'],
      ...options,
    ]);
    this.#servers.push(server);
    await waitFor(() => isReady(this), {
      what: `kube-apiserver: ${server.stderr().slice(-500)}`,
      timeoutMs: startTimeoutMs,
    });
  }

  /** Ends the oldest. */
  async endServer(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const server = this.#servers.shift();
    if (server === undefined) return;
    server.child.kill(signal);
    if (signal === 'SIGKILL') await server.exited;
    else this.#ending.push(server);
  }

  /** `type`: of the body. @throws Error: it answers nothing, or with a failure */
  async call(
    method: string,
    path: string,
    body?: object,
    type?: string,
  ): Promise<ApiAnswer['body']> {
    const answer = await this.ask(method, path, body, type);
    if (answer.status < 300) return answer.body;
    throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }

  /** Whatever the answer is. `token`: of another user than the administrator. */
  async ask(
    method: string,
    path: string,
    body?: object,
    type: string = 'application/json',
    token: string = adminToken,
  ): Promise<ApiAnswer> {
    const { promise, resolve, reject } = Promise.withResolvers<ApiAnswer>();
    const outgoing = request(`${this.url}${path}`, {
      method,
      ca: this.ca,
      agent: false,
      timeout: 10_000,
      headers: { authorization: `Bearer ${token}`, 'content-type': type },
    });
    outgoing.once('error', reject);
    outgoing.once('response', (response) => {
      const { statusCode: status = 0, headers } = response;
      const warnings = [headers['warning'] ?? []].flat();
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.once('end', () => {
        const isJson = text.startsWith('{');
        resolve({ status, warnings, body: isJson ? JSON.parse(text) : { text } });
      });
    });
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
    return promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of [...this.#servers, ...this.#ending]) {
      server.child.kill('SIGKILL');
      // oxlint-disable-next-line no-await-in-loop -- few
      await server.exited;
    }
    await this.#etcd?.stop();
    rmSync(this.#directory, { recursive: true });
  }

  async #startEtcd(): Promise<void> {
    const client = `http://127.0.0.1:${this.#ports.etcd}`;
    const peer = `http://127.0.0.1:${this.#ports.peer}`;
    this.#etcd = startProcess(join(this.#programs, 'etcd'), [
      ...['--data-dir', join(this.#directory, 'etcd'), '--unsafe-no-fsync', '--name', 'one'],
      ...['--listen-client-urls', client, '--advertise-client-urls', client],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
      ...['--initial-cluster', `one=${peer}`],
    ]);
  }
}

async function isReady(server: RealApiServer): Promise<boolean> {
  const { text } = await server.call('GET', '/readyz');
  return text === 'ok';
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', resolve);
  await promise;
  const address = server.address();
  server.close();
  if (address === null || typeof address === 'string') throw new TypeError('not listening');
  return address.port;
}
