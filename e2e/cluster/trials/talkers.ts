// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Pods of a trial that talk from their first moment on (talker.c), their image, and who hears them: each packet is marked with
 * whether policy allows it, so that a denied one that arrives is a fault.
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { imageArchive, layerOf } from '@tandem/images/oci';
import { type RunningProcess, run, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { inControlPlane } from '../control-plane.ts';
import { type ClusterConfig, type Layout, nodeIndexes, worldApiAddress } from '../layout.ts';
import { importImage } from '../node.ts';
import { podProcess } from './pod-process.ts';

export const talkerImage = 'localhost/tandem-trial/talker:1';
/** Where talkers that are ingress-denied listen: what arrives there they tell the collector. */
export const talkerPort = 7777;
export const collectorPort = 9000;
export const collector: string = `${worldApiAddress}:${collectorPort}`;
const compileTimeoutMs = 60_000;
const hearTimeoutMs = 30_000;
const complaintsMax = 1000;

export async function importTalkerImage(layout: Layout, config: ClusterConfig): Promise<void> {
  const directory = join(layout.directory, 'images');
  mkdirSync(directory, { recursive: true });
  const program = join(directory, 'talker');
  const source = fileURLToPath(new URL('talker.c', import.meta.url));
  const flags = ['-std=gnu11', '-D_GNU_SOURCE', '-Os', '-static', '-s'];
  await run('gcc', [...flags, '-o', program, source], { timeoutMs: compileTimeoutMs });
  const layer = layerOf([{ path: 'talker', mode: 0o755, content: readFileSync(program) }]);
  const file = join(directory, 'talker.tar');
  writeFileSync(
    file,
    imageArchive({ names: [talkerImage], layers: [layer], entrypoint: ['/talker'] }),
  );
  for (const index of nodeIndexes(config)) await importImage(layout, index, file);
}

export interface TalkerSpec {
  readonly node: string;
  readonly intervalMs: number;
  /** As talker.c reads them. */
  readonly targets: readonly string[];
  readonly port?: number;
}

/** The spec of a pod of one talker. */
export function talkerPodSpec({
  node,
  intervalMs,
  targets,
  port = talkerPort,
}: TalkerSpec): object {
  return {
    nodeSelector: { 'kubernetes.io/hostname': node },
    terminationGracePeriodSeconds: 1,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    containers: [
      {
        name: 'talker',
        image: talkerImage,
        imagePullPolicy: 'Never',
        args: [`${port}`, `${intervalMs}`, collector, ...targets],
      },
    ],
  };
}

/** The server that allowed packets go to: knows which talkers it has heard, and since when. */
export class Collector implements AsyncDisposable {
  /** Time of the first packet of each pod, by name, as `Date.now` gives it. */
  readonly heard: Map<string, number> = new Map();
  /** First reports of talkers about packets that they received. */
  readonly complaints: string[] = [];
  /** Called with each of them: by whom, from whom, and when, by `Date.now`. */
  onReceived: (receiver: string, sender: string, atMs: number) => void = () => undefined;
  readonly #process: RunningProcess;
  #isReady = false;
  #timesForgotten = 0;

  private constructor(layout: Layout) {
    const script = fileURLToPath(new URL('collector.ts', import.meta.url));
    const [command, args] = inControlPlane(layout, process.execPath, [...process.execArgv, script]);
    this.#process = startProcess(command, args, { onLine: (line) => this.#onLine(line) });
  }

  static async start(layout: Layout): Promise<Collector> {
    const started = new Collector(layout);
    await waitFor(() => started.#isReady, { what: 'the collector', timeoutMs: hearTimeoutMs });
    return started;
  }

  #onLine(line: string): void {
    const [kind = '', name = '', ...rest] = line.split(' ');
    if (kind === 'ready') this.#isReady = true;
    if (kind === 'heard') this.heard.set(name, Number(rest[0]));
    if (kind === 'forgotten') {
      this.heard.clear();
      this.#timesForgotten += 1;
    }
    if (kind !== 'complaint') return;
    // TIME received from ADDRESS: TANDEM? SENDER talks
    const [time, ...words] = rest;
    this.onReceived(name, words[4] ?? '', Number(time));
    if (this.complaints.length < complaintsMax) {
      this.complaints.push(`${name} ${words.join(' ')}`);
    }
  }

  /** Removes the reports of the time before Tandem was installed. */
  forgetComplaints(): void {
    this.complaints.length = 0;
  }

  async waitForAll(names: readonly string[], timeoutMs: number): Promise<void> {
    const isHeard = (): boolean => names.every((name) => this.heard.has(name));
    await waitFor(isHeard, { what: `a packet of each of ${names.length} talkers`, timeoutMs });
  }

  /** Whom it has heard so far: who is named by `heard` after this has been heard since. */
  async forget(): Promise<void> {
    const before = this.#timesForgotten;
    this.#process.stdin.write('forget\n');
    await waitFor(() => this.#timesForgotten > before, { what: 'the collector to forget' });
  }

  /** Tells the talkers at these addresses to send to each other. */
  introduce(addresses: readonly string[]): void {
    if (addresses.length > 0) this.#process.stdin.write(`peers ${addresses.join(' ')}\n`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stop();
  }
}

/** The process of a talker, once it has one. */
export async function talkerPid(layout: Layout, pod: string): Promise<number> {
  return waitFor(() => podProcess(layout, pod), {
    what: `a process of ${pod}`,
    timeoutMs: hearTimeoutMs,
  });
}
