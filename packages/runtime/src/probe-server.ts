// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Answers the probes of a pod (`packages/pod-programs/native/probe.c`) on a unix socket of this process alone: a port of
 * the node's network is answered by whichever process has it. A line with the question, then the answer, then the end.
 */

import net from 'node:net';
import type { Component } from './lifecycle.ts';
import type { Logger } from './log.ts';
import { TandemError } from './tandem-error.ts';
import { listenUnix } from './unix-socket.ts';

export const probeQuestions = ['livez', 'readyz'] as const;
export type ProbeQuestion = (typeof probeQuestions)[number];

export interface ProbeAnswer {
  readonly isOk: boolean;
  /** For people: the state, or the fault. */
  readonly text: string;
}

/** Longest question, in octets; the longest in use has seven. */
const questionBytesMax = 64;
/** Longest answer, in octets; the probe reads no more. */
const answerBytesMax = 1000;
/** Connections at once; more are closed. */
const connectionsMax = 16;
const connectionTimeoutMs = 2000;

export class ProbeServer implements Component {
  readonly name = 'probe server';
  readonly #path: string;
  readonly #log: Logger;
  readonly #server: net.Server;
  readonly #answer: (question: ProbeQuestion) => ProbeAnswer;

  constructor(path: string, answer: (question: ProbeQuestion) => ProbeAnswer, log: Logger) {
    this.#path = path;
    this.#answer = answer;
    this.#log = log;
    this.#server = net.createServer((socket) => this.#serve(socket));
    this.#server.maxConnections = connectionsMax;
  }

  /** Never rejects: a process that no probe reaches serves all the same, until kubelet ends it. */
  async start(): Promise<void> {
    try {
      await listenUnix(this.#server, { path: this.#path });
    } catch (error) {
      this.#log.error('probes cannot be answered', { error: TandemError.from(error) });
    }
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    await promise;
  }

  #serve(socket: net.Socket): void {
    let text = '';
    socket.setTimeout(connectionTimeoutMs, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('data', (bytes: Buffer) => {
      text += bytes.toString('latin1');
      const end = text.indexOf('\n');
      if (end < 0 && text.length <= questionBytesMax) return;
      const question = probeQuestions.find((each) => each === text.slice(0, end));
      const { isOk, text: said } =
        question === undefined
          ? { isOk: false, text: `ask ${probeQuestions.join(' or ')}` }
          : this.#answer(question);
      socket.removeAllListeners('data');
      socket.end(`${`${isOk ? 'ok' : 'no'} ${said}`.slice(0, answerBytesMax)}\n`);
    });
  }
}
