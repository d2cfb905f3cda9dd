// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Many small writes to the API server, over one `kubectl proxy` at a unix socket: a kubectl for each would take the CPU. */

import { request } from 'node:http';
import { join } from 'node:path';
import { type RunningProcess, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { adminKubeconfig } from '../kubectl.ts';
import type { Layout } from '../layout.ts';
import { binary } from '../programs.ts';

const timeoutMs = 20_000;
const firstError = 300;

export class ApiClient implements AsyncDisposable {
  readonly #proxy: RunningProcess;
  readonly #socketPath: string;

  private constructor(proxy: RunningProcess, socketPath: string) {
    this.#proxy = proxy;
    this.#socketPath = socketPath;
  }

  static async start(layout: Layout): Promise<ApiClient> {
    const socketPath = join(layout.directory, 'api.sock');
    let isReady = false;
    const proxy = startProcess(
      'nsenter',
      [
        `--net=/run/netns/${layout.controlPlaneNetns}`,
        binary('kubernetes', 'kubectl'),
        `--kubeconfig=${adminKubeconfig(layout)}`,
        ...['proxy', `--unix-socket=${socketPath}`, '--reject-methods=^$'],
      ],
      { onLine: () => (isReady = true) },
    );
    await waitFor(() => isReady, { what: 'kubectl proxy', timeoutMs });
    return new ApiClient(proxy, socketPath);
  }

  async create(path: string, object: object): Promise<void> {
    await this.#send('POST', path, 'application/json', object);
  }

  /** A JSON merge patch: a null takes a field away. */
  async patch(path: string, change: object): Promise<void> {
    await this.#send('PATCH', path, 'application/merge-patch+json', change);
  }

  /** Pods end at once. */
  async remove(path: string): Promise<void> {
    await this.#send('DELETE', path, 'application/json', { gracePeriodSeconds: 0 });
  }

  async get(path: string): Promise<unknown> {
    return JSON.parse(await this.#send('GET', path, 'application/json', null));
  }

  #send(method: string, path: string, type: string, body: object | null): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const content = Buffer.from(body === null ? '' : JSON.stringify(body));
    const call = request(
      {
        ...{ socketPath: this.#socketPath, method, path, timeout: timeoutMs },
        // Node would send the body of a DELETE without its length, and the next request would begin in it.
        headers: { 'content-type': type, 'content-length': content.length },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          const status = response.statusCode ?? firstError;
          if (status < firstError) resolve(text);
          else reject(new Error(`${method} ${path}: ${status}: ${text.slice(0, 300)}`));
        });
      },
    );
    call.on('error', reject);
    call.on('timeout', () => call.destroy(new Error(`${method} ${path}: no answer`)));
    call.end(content);
    return promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#proxy.stop();
  }
}
