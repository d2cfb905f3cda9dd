// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A pod that knocks all the time at addresses that were not learned, and a guard outside who counts what gets out. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Pod } from '@tandem/testing/netns';
import { buildPacket } from '@tandem/testing/packet';
import { type Capture, Probe } from '@tandem/testing/probe';

export const forbiddenAddress = '203.0.113.200';
const forbiddenBytes = Uint8Array.of(203, 0, 113, 200);
const port = 80;
const turnSeconds = 0.2;
/** Few source ports, so that conntrack has an entry for some knocks and none for others. */
const sourcePorts = [20_001, 20_002, 20_003, 20_004];

export function synFrame(pod: Pod, to: string, sourcePort: number): Uint8Array {
  return buildPacket({
    ethernet: { source: pod.mac, destination: pod.gatewayMac },
    ip: { source: pod.ipv4 ?? '', destination: to },
    tcp: { sourcePort, destinationPort: port, flags: ['syn'], sequence: 1 },
  });
}

export class Gate implements AsyncDisposable {
  readonly #pod: Pod;
  readonly #capture: Capture;
  readonly #probes: Probe[] = [];
  #knocking: Promise<unknown>[] = [];
  #isStopped = true;
  #passedBefore = 0;
  #knocks = 0;

  private constructor(pod: Pod, capture: Capture) {
    this.#pod = pod;
    this.#capture = capture;
  }

  /** `outside` sees what leaves the node. */
  static async open(pod: Pod, outside: Probe): Promise<Gate> {
    const gate = new Gate(pod, await outside.capture({ contains: forbiddenBytes }));
    for (const _ of sourcePorts) gate.#probes.push(Probe.start(pod.namespace));
    return gate;
  }

  /** Knocks `rate` times a second until `count`. */
  knock(rate: number): void {
    this.#isStopped = false;
    this.#knocking = this.#probes.map((probe, i) =>
      this.#keepKnocking(probe, sourcePorts[i]!, rate / sourcePorts.length),
    );
    // The end of the gate ends the probes and with them what they still do.
    for (const knocking of this.#knocking) knocking.catch(() => undefined);
  }

  async #keepKnocking(probe: Probe, sourcePort: number, rate: number): Promise<void> {
    const data = synFrame(this.#pod, forbiddenAddress, sourcePort);
    const count = Math.max(1, Math.round(rate * turnSeconds));
    while (!this.#isStopped) {
      const { sent } = await probe.blast({ interface: 'eth0', data, count, rate });
      this.#knocks += sent;
    }
  }

  /** Ends the knocking: how many knocks there were and how many got out. */
  async count(): Promise<{ knocks: number; escaped: number }> {
    this.#isStopped = true;
    await Promise.all(this.#knocking);
    // What is on its way now arrives within this.
    await delay(20);
    const { matched } = await this.#capture.captured();
    const result = { knocks: this.#knocks, escaped: matched - this.#passedBefore };
    this.#passedBefore = matched;
    this.#knocks = 0;
    return result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const probe of this.#probes) await probe[Symbol.asyncDispose]();
    await this.#capture.close();
  }
}
