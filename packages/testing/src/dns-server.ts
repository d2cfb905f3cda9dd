// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * An upstream DNS server that answers what the test programs (`dns-script.ts`), badly too, and tells
 * what it was asked. It is a process of its own inside a namespace, on UDP and TCP.
 */

import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DnsRule } from './dns-script.ts';
import type { Namespace } from './namespace.ts';
import { type RunningProcess, startProcess } from './process.ts';
import { patience } from './wait.ts';

const startTimeoutMs = 15_000;

export interface SeenQuery {
  /** Lower case, without the final dot. */
  readonly name: string;
  readonly sentName: string;
  readonly type: number;
  readonly id: number;
  readonly flags: number;
  readonly ednsBytes: number | null;
  /** QDCOUNT, ANCOUNT, NSCOUNT, ARCOUNT. */
  readonly counts: readonly number[];
  readonly transport: 'udp' | 'tcp';
  readonly from: string;
  readonly fromPort: number;
  readonly to: string;
}

export type ServerRequest =
  | { readonly id: number; readonly kind: 'program'; readonly rules: readonly DnsRule[] }
  | { readonly id: number; readonly kind: 'queries' | 'totals' | 'clear' };

export interface ServerAnswer {
  readonly id: number;
  readonly queries: readonly SeenQuery[];
  readonly total: number;
  readonly malformed: number;
}

export interface DnsServerOptions {
  /** Addresses to serve, each on UDP and TCP; they must be the namespace's own. */
  readonly addresses: readonly string[];
  /** Default 53. */
  readonly port?: number;
  readonly rules?: readonly DnsRule[];
}

export class DnsServer implements AsyncDisposable {
  readonly #process: RunningProcess;
  readonly #waiters = new Map<number, PromiseWithResolvers<ServerAnswer>>();
  #nextId = 1;

  private constructor(process: RunningProcess) {
    this.#process = process;
    process.child.on('message', (answer) => {
      const { id } = answer as ServerAnswer;
      this.#waiters.get(id)?.resolve(answer as ServerAnswer);
      this.#waiters.delete(id);
    });
    const end = (): void => {
      const error = new Error(`the DNS server ended: ${process.stderr()}`);
      for (const { reject } of this.#waiters.values()) reject(error);
      this.#waiters.clear();
    };
    process.exited.then(end, end);
  }

  /** Resolves when every address is served. */
  static async start(namespace: Namespace, options: DnsServerOptions): Promise<DnsServer> {
    // The source while developing, the built file from dist.
    const file = `./dns-server-child${extname(import.meta.url)}`;
    const script = fileURLToPath(new URL(file, import.meta.url));
    const args = [script, `${options.port ?? 53}`, ...options.addresses];
    const process_ = startProcess(...namespace.enter(process.execPath, args), { ipc: true });
    const server = new DnsServer(process_);
    const timer = setTimeout(() => process_.child.kill('SIGKILL'), startTimeoutMs * patience);
    try {
      await server.#wait(0);
      await server.program(options.rules ?? []);
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Replaces the rules, at once. */
  async program(rules: readonly DnsRule[]): Promise<void> {
    await this.#request({ id: this.#nextId++, kind: 'program', rules });
  }

  /** Queries since the start or the last `clear`, the first 200,000 of them; optionally of one name. */
  async queries(name?: string): Promise<readonly SeenQuery[]> {
    const { queries } = await this.#request({ id: this.#nextId++, kind: 'queries' });
    return name === undefined ? queries : queries.filter((query) => query.name === name);
  }

  /** Messages since the start or the last `clear`; `malformed` of them had no readable question. */
  async totals(): Promise<{ total: number; malformed: number }> {
    const { total, malformed } = await this.#request({ id: this.#nextId++, kind: 'totals' });
    return { total, malformed };
  }

  async clear(): Promise<void> {
    await this.#request({ id: this.#nextId++, kind: 'clear' });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stop();
  }

  async #request(request: ServerRequest): Promise<ServerAnswer> {
    const answered = this.#wait(request.id);
    this.#process.child.send(request);
    return answered;
  }

  async #wait(id: number): Promise<ServerAnswer> {
    const waiter = Promise.withResolvers<ServerAnswer>();
    this.#waiters.set(id, waiter);
    return waiter.promise;
  }
}
