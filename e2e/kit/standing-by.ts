// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Processes that stand by for another one, and the probes of their pods, asked as kubelet asks. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type RunningProcess, run, tryRun } from '@tandem/testing/process';
import { patience, waitFor } from '@tandem/testing/wait';
import { proxyUid } from './shipped-privileges.ts';
import type { ProcessName, TandemNode } from './tandem-node.ts';

const program = fileURLToPath(
  new URL('../../packages/pod-programs/build/tandem-probe', import.meta.url),
);
const answerTimeoutMs = 20_000;

/** Where processes answer probes: as in a pod, each in a place of its own. */
export class Probes implements Disposable {
  readonly #directory = mkdtempSync(join(tmpdir(), 'tandem-probes-'));
  #count = 0;

  async newSocket(name: ProcessName): Promise<string> {
    await run('chmod', ['755', this.#directory]);
    const own = join(this.#directory, `${name}-${++this.#count}`);
    const owner = name === 'agent' ? 0 : proxyUid;
    // As an emptyDir: everybody may write to it.
    await run('install', ['-d', '-m', '777', '-o', `${owner}`, own]);
    return join(own, 'probe', 'probe.sock');
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true });
  }
}

export interface Second {
  readonly running: RunningProcess;
  readonly socket: string;
}

/** Output of the probe. */
export async function ask(socket: string, question: 'livez' | 'readyz'): Promise<string> {
  return (await tryRun(program, [socket, question])).stdout.trim();
}

export async function waitForAnswer(socket: string, answer: string): Promise<void> {
  await waitFor(async () => (await ask(socket, 'readyz')) === answer, {
    what: `"${answer}" of ${socket}`,
    timeoutMs: answerTimeoutMs * patience,
  });
}

/** Starts a second process of a kind. */
export async function startSecond(
  tandem: TandemNode,
  name: ProcessName,
  probes: Probes,
): Promise<Second> {
  const socket = await probes.newSocket(name);
  const running = await tandem.startBeside(name, { flags: { 'probe-socket': socket } });
  return { running, socket };
}

/** Starts it and waits until it stands by. */
export async function standBy(
  tandem: TandemNode,
  name: ProcessName,
  probes: Probes,
): Promise<Second> {
  const second = await startSecond(tandem, name, probes);
  await waitForAnswer(second.socket, 'ok standby');
  return second;
}
