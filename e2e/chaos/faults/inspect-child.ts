// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Blocks a thread of a Node process as a runaway callback would: by the inspector that SIGUSR1 opens in a
 * Node, so that the product needs no code for it. Runs inside the node's network namespace.
 *
 *   inspect-child.ts PID main|worker: "ready", then for each line "MS" on standard input "blocked", "over"
 */

import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

const [pid = '', thread = ''] = process.argv.slice(2);
const inspectorUrl = 'http://127.0.0.1:9229/json';
const attempts = 100;

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: {
    readonly sessionId: string;
    readonly message?: string;
    readonly workerInfo?: { readonly url: string };
  };
}

class Session {
  readonly #socket: WebSocket;
  #nextId = 1;
  readonly #waiting = new Map<number, () => void>();
  /** Session of the worker that serves DNS. */
  readonly worker: PromiseWithResolvers<string> = Promise.withResolvers<string>();

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => this.#onMessage(JSON.parse(String(data))));
  }

  async call(method: string, params: object = {}, session?: string): Promise<void> {
    const id = this.#nextId++;
    const answered = Promise.withResolvers<void>();
    this.#waiting.set(id, answered.resolve);
    const call = { id, method, params };
    if (session === undefined) this.#socket.send(JSON.stringify(call));
    else {
      const outer = { sessionId: session, message: JSON.stringify(call) };
      const method_ = 'NodeWorker.sendMessageToWorker';
      this.#socket.send(JSON.stringify({ id: this.#nextId++, method: method_, params: outer }));
    }
    await answered.promise;
  }

  #onMessage({ id, method, params }: Message): void {
    if (id !== undefined) this.#waiting.get(id)?.();
    if (params === undefined) return;
    if (method === 'NodeWorker.attachedToWorker' && params.workerInfo?.url.endsWith('/worker.js')) {
      this.worker.resolve(params.sessionId);
    }
    if (method === 'NodeWorker.receivedMessageFromWorker') {
      this.#onMessage(JSON.parse(params.message ?? '{}') as Message);
    }
  }
}

async function open(): Promise<WebSocket> {
  process.kill(Number(pid), 'SIGUSR1');
  for (let attempt = 0; attempt < attempts; attempt++) {
    try {
      const [target] = (await (await fetch(inspectorUrl)).json()) as {
        webSocketDebuggerUrl: string;
      }[];
      const socket = new WebSocket(target?.webSocketDebuggerUrl ?? '');
      await new Promise((resolve, reject) => {
        socket.addEventListener('open', resolve);
        socket.addEventListener('error', reject);
      });
      return socket;
    } catch {
      await delay(50); // it is not open yet
    }
  }
  throw new Error(`no inspector in process ${pid}`);
}

const session = new Session(await open());
let target: string | undefined;
if (thread === 'worker') {
  await session.call('NodeWorker.enable', { waitForDebuggerOnStart: false });
  target = await session.worker.promise;
}
process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  const loop = `for (const end = performance.now() + ${Number(line)}; performance.now() < end; );`;
  process.stdout.write('blocked\n');
  await session.call('Runtime.evaluate', { expression: loop }, target);
  process.stdout.write('over\n');
}
// Else the next process that is told to open its inspector finds the port taken.
const close = "setTimeout(() => process.getBuiltinModule('node:inspector').close(), 10)";
await session.call('Runtime.evaluate', { expression: close });
process.exit(0);
