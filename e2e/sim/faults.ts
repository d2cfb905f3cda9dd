// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Faults, and how often each happens. Each schedule draws its own mixture: some see nothing but kills, some a
 * bit of everything, so that rare combinations are met as well as long quiet times.
 */

import type { Life } from './life.ts';
import { variantCount } from './universe.ts';
import type { World } from './world.ts';

export const faultNames = [
  'kill',
  'kill both',
  'freeze',
  'drain',
  'link cut',
  'stream cut',
  'partition',
  'sleep',
  'policy',
  'upstream loss',
  'upstream slow',
  'upstream broken',
  'disk full',
] as const;
export type FaultName = (typeof faultNames)[number];

export class Faults {
  readonly #world: World;
  readonly #enabled: readonly FaultName[];
  /** Share of the steps. */
  readonly rate: number;
  /** Seams that are passed between two at which something happens, on average. */
  readonly seamsBetween: number;
  #losesUpstream = 0;
  #slowUpstreamMs = 0;
  #isHealed = false;

  constructor(world: World, without: readonly FaultName[]) {
    this.#world = world;
    const { random } = world;
    const share = random.pick([0.15, 0.4, 0.8]);
    this.#enabled = faultNames.filter((name) => random.chance(share) && !without.includes(name));
    this.rate = this.#enabled.length === 0 ? 0 : random.pick([0.01, 0.03, 0.08]);
    this.seamsBetween = random.pick([30, 100, 400]);
  }

  has(name: FaultName): boolean {
    return this.#enabled.includes(name);
  }

  losesForward(): boolean {
    return this.#losesUpstream > 0 && this.#world.random.chance(this.#losesUpstream);
  }

  upstreamDelayMs(): number {
    return this.#slowUpstreamMs + this.#world.random.int(20);
  }

  /** Whether nobody listens where the datagram goes: an ICMP error comes back. */
  refusesForward(): boolean {
    return this.#breaks(0.08);
  }

  /** Whether a server does with a TCP connection what no server should. */
  breaksServer(): boolean {
    return this.#breaks(0.4);
  }

  #breaks(share: number): boolean {
    return !this.#isHealed && this.has('upstream broken') && this.#world.random.chance(share);
  }

  happen(): void {
    const { random } = this.#world;
    const name = random.pick(this.#enabled);
    const life = this.#world.lives[random.int(2) as 0 | 1];
    this.#world.trace.note(`fault: ${name}`, life?.index ?? -1);
    this.#happen(name, life);
  }

  #happen(name: FaultName, life: Life | null): void {
    const world = this.#world;
    const { random } = world;
    switch (name) {
      case 'kill':
        life?.end('is killed');
        return;
      case 'kill both':
        for (const one of [...world.lives]) one?.end('is killed');
        return;
      case 'freeze':
        if (life !== null)
          life.frozenUntilNs = world.nowNs + random.int(random.chance(0.8) ? 1500 : 7000) * 1e6;
        return;
      case 'drain':
        life?.main.drain(2000 + random.int(3000));
        return;
      case 'link cut':
        world.links.cut();
        return;
      case 'stream cut':
        world.peers.cutStreams();
        return;
      case 'partition':
        world.peers.isPartitioned = !world.peers.isPartitioned;
        return;
      case 'sleep':
        world.sleep(1 + random.int(40));
        return;
      case 'policy':
        world.desired = random.int(variantCount);
        return;
      case 'upstream loss':
        this.#losesUpstream = this.#losesUpstream > 0 ? 0 : random.pick([0.1, 1]);
        return;
      case 'upstream slow':
        this.#slowUpstreamMs = this.#slowUpstreamMs > 0 ? 0 : 50 + random.int(1500);
        return;
      case 'upstream broken':
        // Not now and then, but a share of all: see `#breaks`.
        return;
      case 'disk full':
        world.isDiskFull = !world.isDiskFull;
        world.isRunDirectoryFull = world.isDiskFull && random.chance(0.5);
    }
  }

  /** All is well again. */
  heal(): void {
    const world = this.#world;
    this.#isHealed = true;
    this.#losesUpstream = 0;
    this.#slowUpstreamMs = 0;
    world.peers.heal();
    world.isDiskFull = false;
    world.isRunDirectoryFull = false;
    for (const life of world.lives) if (life !== null) life.frozenUntilNs = 0;
  }

  /** Whoever is gone comes back soon. */
  restart(): void {
    const world = this.#world;
    for (const index of [0, 1] as const) {
      if (world.lives[index] === null)
        world.startNs[index] = world.nowNs + world.random.int(100) * 1e6;
    }
  }
}
