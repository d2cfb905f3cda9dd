// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The socket at which the CNI plugin hands over each pod's network, and waits until the pod is enforced. Only root
 * may connect.
 */

import { existsSync } from 'node:fs';
import net from 'node:net';
import type { Logger } from '@tandem/runtime/log';
import { listenUnix } from '@tandem/runtime/unix-socket';
import {
  type CallError,
  cniCode,
  errorAnswer,
  type GateCall,
  readCall,
  successAnswer,
} from './gate-call.ts';
import { admitTimeoutMs, callBytesMax, callsMax, callTimeoutMs } from './limits.ts';
import type { WaitTimes } from './wait-times.ts';

/** Handler of the agent for calls of the plugin. */
export interface GateHandler {
  /** Resolves when the pod is enforced, or with why it is not; `signal`: the time is over. */
  admit(call: GateCall, signal: AbortSignal): Promise<string | null>;
  /** The sandbox is gone, or about to be. */
  removed(call: GateCall): void;
}

export interface GateServerOptions {
  readonly path: string;
  readonly handler: GateHandler;
  /** From a call of ADD to its answer, whatever that was. */
  readonly waits: WaitTimes;
  readonly log: Logger;
}

export class GateServer {
  readonly counters = { admitted: 0, refused: 0, malformed: 0, overLimit: 0, removed: 0 };
  readonly #o: GateServerOptions;
  readonly #server: net.Server;
  readonly #calls = new Set<net.Socket>();
  #starting: Promise<void> | null = null;

  constructor(options: GateServerOptions) {
    this.#o = options;
    this.#server = net.createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
  }

  /** Calls that wait. */
  get waiting(): number {
    return this.#calls.size;
  }

  /** Whether the plugin finds the socket; false when it, or its directory, was removed. */
  get isReachable(): boolean {
    return this.#server.listening && existsSync(this.#o.path);
  }

  /** A socket that was removed is made again. @throws TandemError TANDEM_SOCKET_IN_USE, TANDEM_SOCKET_PATH, TANDEM_SYSTEM */
  async start(): Promise<void> {
    // A second one at the same time would find the server listening, fail, and close it.
    this.#starting ??= this.#listen().finally(() => {
      this.#starting = null;
    });
    await this.#starting;
  }

  async #listen(): Promise<void> {
    if (this.#server.listening) this.#server.close();
    await listenUnix(this.#server, { path: this.#o.path });
  }

  async stop(): Promise<void> {
    for (const socket of this.#calls) socket.destroy();
    if (!this.#server.listening) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    await promise;
  }

  #accept(socket: net.Socket): void {
    // A plugin that goes away has its own reason; the call ends with its socket.
    socket.on('error', () => socket.destroy());
    if (this.#calls.size >= callsMax) {
      this.counters.overLimit += 1;
      socket.end(
        errorAnswer({
          code: cniCode.tryAgainLater,
          message: `tandem: more than ${callsMax} pods start at once`,
          cniVersion: '1.0.0',
        }),
      );
      socket.resume();
      return;
    }
    this.#calls.add(socket);
    socket.once('close', () => this.#calls.delete(socket));
    socket.setTimeout(callTimeoutMs, () => socket.destroy());
    const chunks: Buffer[] = [];
    let length = 0;
    socket.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= callBytesMax) chunks.push(chunk);
      else socket.destroy();
    });
    socket.once('end', () => {
      socket.setTimeout(0);
      void this.#answer(socket, Buffer.concat(chunks).toString('utf8'));
    });
  }

  async #answer(socket: net.Socket, text: string): Promise<void> {
    const call = readCall(text);
    if (!call.ok) {
      this.counters.malformed += 1;
      this.#o.log.error('a call of tandem-gate was refused', { reason: call.error.message });
      socket.end(errorAnswer(call.error));
      return;
    }
    if (call.value.command !== 'ADD') {
      this.counters.removed += 1;
      this.#o.handler.removed(call.value);
      socket.end(successAnswer({}));
      return;
    }
    const problem = await this.#admit(call.value);
    if (problem === null) socket.end(successAnswer(call.value.prevResult));
    else socket.end(errorAnswer(problem));
  }

  async #admit(call: GateCall): Promise<CallError | null> {
    const begunMs = performance.now();
    const reason = await this.#o.handler.admit(call, AbortSignal.timeout(admitTimeoutMs));
    this.#o.waits.add((performance.now() - begunMs) / 1000);
    if (reason === null) {
      this.counters.admitted += 1;
      return null;
    }
    this.counters.refused += 1;
    const { namespace, name } = call.pod;
    this.#o.log.warn('the start of a pod was refused, kubelet tries again', {
      pod: `${namespace}/${name}`,
      reason,
    });
    return {
      code: cniCode.tryAgainLater,
      message: `tandem: ${reason}`,
      cniVersion: call.cniVersion,
    };
  }
}
