// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A client pod's view: it runs a few lines of JavaScript by `kubectl exec`, with the resolver of the pod. */

import { hasRun, type Kubectl, reasonOf } from '../kubectl.ts';
import type { Client } from './objects.ts';

/** How long a connection is waited for: a dropped packet gives no answer. */
export const connectTimeoutMs = 2000;

export interface Seen {
  /** "connected", or the code of the error: ECONNREFUSED, ETIMEDOUT, ENOTFOUND, EREFUSED. */
  readonly result: string;
  readonly address: string;
}

/** Looked up as programs do, by getaddrinfo, and connected to. */
const connectScript = `
const [host, port, ms] = process.argv.slice(1);
const end = (result, address = '') => { console.log(JSON.stringify({ result, address })); process.exit(0); };
require('node:dns').lookup(host, (error, address) => {
  if (error) return end(error.code);
  const socket = require('node:net').connect({ host: address, port: Number(port) });
  socket.on('connect', () => end('connected', address)).on('error', (e) => end(e.code, address));
  setTimeout(() => end('ETIMEDOUT', address), Number(ms));
});`;

/** The answer's code to a question for a name, as it is: EREFUSED and ENOTFOUND are not the same. */
const resolveScript = `
const [name] = process.argv.slice(1);
const resolver = new (require('node:dns').Resolver)({ timeout: 2000, tries: 2 });
resolver.resolve4(name, (error, addresses) =>
  console.log(JSON.stringify({ result: error ? error.code : 'answered', address: (addresses || [''])[0] })));`;

export class ClientPods {
  readonly #kubectl: Kubectl;
  readonly #namespace: string;

  constructor(kubectl: Kubectl, namespace: string) {
    this.#kubectl = kubectl;
    this.#namespace = namespace;
  }

  connect(client: Client, host: string, port: number): Promise<Seen> {
    return this.#run(client, connectScript, [host, String(port), String(connectTimeoutMs)]);
  }

  resolve(client: Client, name: string): Promise<Seen> {
    return this.#run(client, resolveScript, [name]);
  }

  async #run(client: Client, script: string, args: readonly string[]): Promise<Seen> {
    const where = [`--namespace=${this.#namespace}`, client];
    const result = await this.#kubectl.run([
      ...['exec', ...where, '--', '/bin/node', '-e', script, '--', ...args],
    ]);
    if (!hasRun(result) || result.code !== 0) throw new Error(`${client}: ${reasonOf(result)}`);
    return JSON.parse(result.stdout) as Seen;
  }
}
