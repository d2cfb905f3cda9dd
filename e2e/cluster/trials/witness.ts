// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Captures where packets of talkers may pass: what is marked as denied must be seen nowhere. */

import { type Capture, Probe } from '@tandem/testing/probe';
import type { Inside } from '@tandem/testing/probe-process';
import { inControlPlane } from '../control-plane.ts';
import type { Layout } from '../layout.ts';
import { talkerPid } from './talkers.ts';

const marks = { denied: 'TANDEM-', allowed: 'TANDEM+' } as const;
const textLength = 120;

interface Post {
  readonly where: string;
  readonly probe: Probe;
  readonly denied: Capture;
  readonly allowed: Capture;
}

export interface Sighting {
  readonly where: string;
  readonly allowed: number;
  readonly denied: number;
  /** Texts of the first denied packets. */
  readonly texts: readonly string[];
}

export class Witness implements AsyncDisposable {
  readonly #posts: Post[] = [];

  /** At the bridge of the control plane: everything that leaves a node for the outside, also of a node that starts. */
  async watchOutside(layout: Layout): Promise<void> {
    const enter: Inside['enter'] = (command, args = []) =>
      first(...inControlPlane(layout, command, args));
    await this.#watch('outside', { enter }, 'br0');
  }

  /** Inside of a talker's pod, which must run. */
  async watchPod(layout: Layout, pod: string): Promise<void> {
    const target = `${await talkerPid(layout, pod)}`;
    const enter: Inside['enter'] = (command, args = []) =>
      first('nsenter', ['--target', target, '--net', command, ...args]);
    await this.#watch(pod, { enter }, 'eth0');
  }

  async #watch(where: string, place: Inside, name: string): Promise<void> {
    const probe = Probe.start(place);
    // The filter queues only frames with the mark: most traffic of the node belongs to others.
    const capture = (mark: string): Promise<Capture> =>
      probe.capture({ interface: name, contains: mark, payload: mark });
    const denied = await capture(marks.denied);
    const allowed = await capture(marks.allowed);
    this.#posts.push({ where, probe, denied, allowed });
  }

  /** @throws Error when packets were not looked at: then their kind is not known. */
  async seen(): Promise<readonly Sighting[]> {
    const sightings: Sighting[] = [];
    for (const { where, denied, allowed } of this.#posts) {
      const bad = await denied.captured();
      const good = await allowed.captured();
      const dropped = bad.dropped + good.dropped;
      if (dropped > 0) throw new Error(`${where}: ${dropped} packets were not looked at`);
      const texts = bad.frames.slice(0, 3).map(({ bytes }) => textIn(bytes));
      sightings.push({ where, allowed: good.matched, denied: bad.matched, texts });
    }
    return sightings;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { probe } of this.#posts) await probe[Symbol.asyncDispose]();
  }
}

/** Before everything else: a capture that waits for a CPU loses packets. */
const first = (command: string, args: readonly string[]): [string, string[]] => [
  'nice',
  ['-n', '-20', command, ...args],
];

function textIn(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString('latin1');
  return text.slice(text.indexOf(marks.denied)).slice(0, textLength);
}

/** Sentence of a report that no denied packet was seen. @throws Error with the denied packets that were */
export function nothingDenied(sightings: readonly Sighting[]): string {
  const bad = sightings.filter(({ denied }) => denied > 0);
  if (bad.length > 0) {
    const words = bad.map(
      ({ where, denied, texts }) => `${where}: ${denied} (${texts.join('; ')})`,
    );
    throw new Error(`packets that policy denies were seen: ${words.join(', ')}`);
  }
  const good = sightings.map(({ where, allowed }) => `${where} ${allowed}`);
  return `denied 0; allowed: ${good.join(', ')}; captures lost none`;
}
