// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Software of the node beside which policy cannot be enforced (docs/compatibility.md). It is looked for periodically: a CNI
 * or kube-proxy changes its mode, a sysctl is set, while the agent runs.
 */

import { readFileSync } from 'node:fs';
import type { Ifindex } from '@tandem/core/ids';
import { readCounters } from '@tandem/datapath/counters';
import type { Datapath } from '@tandem/datapath/datapath';
import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import type { LinkCounts } from '@tandem/netlink/link-counts';
import type { NetworkView } from '@tandem/netlink/network-view';
import type { PodInterface } from '../endpoint/pod-interface.ts';
import { divertedLookedAtMax } from '../limits.ts';
import { bridgeFamilies, unseenBridges } from './bridge-netfilter.ts';
import { ipvsEvidence, ipvsInterface } from './ipvs.ts';
import { JudgeWatch, judgedOf } from './judge-watch.ts';

const none: ReadonlySet<Ifindex> = new Set();

export interface CompatibilityOptions {
  readonly datapath: Datapath;
  readonly view: NetworkView;
  /** Interfaces of the pods under policy. */
  readonly interfaces: () => readonly PodInterface[];
}

export class Compatibility {
  readonly #o: CompatibilityOptions;
  #judge = new JudgeWatch();
  #found: readonly Degradation[] = [];

  constructor(options: CompatibilityOptions) {
    this.#o = options;
  }

  /** Degradations of the last look. */
  get degradations(): readonly Degradation[] {
    return this.#found;
  }

  async look(): Promise<void> {
    const interfaces = this.#o.interfaces();
    this.#found = [...this.#ipvs(), ...this.#bridges(interfaces)];
    await this.#watchJudge(interfaces);
    if (this.#judge.isBypassed) this.#found = [...this.#found, degradation('judge-bypassed')];
  }

  #ipvs(): readonly Degradation[] {
    const hasInterface = this.#o.view.state.linkByName(ipvsInterface) !== undefined;
    const evidence = ipvsEvidence(hasInterface);
    if (evidence === null) return [];
    return [
      degradation('ipvs', {
        message: `kube-proxy runs in IPVS mode (${evidence}), which is not supported: replies of Services to pods with egress rules are dropped`,
      }),
    ];
  }

  #bridges(interfaces: readonly PodInterface[]): readonly Degradation[] {
    const { links } = this.#o.view.state;
    const bridges = new Set(
      interfaces.filter(({ isBridged }) => isBridged).map(({ l3Ifindex }) => l3Ifindex),
    );
    const used = [...bridges].flatMap((ifindex) => links.get(ifindex) ?? []);
    return bridgeFamilies.flatMap((family) => {
      const setting = readSetting(family.path);
      const unseen = unseenBridges(family, used, setting);
      if (unseen.length === 0) return [];
      return [
        degradation(`bridge-netfilter-${family.name}`, {
          message: `netfilter does not see ${family.what} on the bridge ${unseen.join(', ')} (${setting === null ? 'br_netfilter is not loaded' : `${family.sysctl}=${setting}`}): pods on it reach each other without policy, and their other traffic is dropped`,
          fix: `${setting === null ? 'modprobe br_netfilter && ' : ''}sysctl -w ${family.sysctl}=1; the agent sees it within seconds`,
        }),
      ];
    });
  }

  async #watchJudge(interfaces: readonly PodInterface[]): Promise<void> {
    const { datapath, view } = this.#o;
    // Without pods nothing is bypassed, and no packet would say that it is over.
    if (interfaces.length === 0) this.#judge = new JudgeWatch();
    if (interfaces.length === 0 || datapath.isUnpinned()) return;
    const ours = new Set(interfaces.map(({ vethIfindex }) => vethIfindex));
    const before = judgedOf(readCounters(datapath));
    const links = await view.rtnetlink.linkCounts();
    const ofPods = links.filter(({ ifindex }) => ours.has(ifindex));
    const counts = { before, interfaces: ofPods, after: judgedOf(readCounters(datapath)) };
    const lopsided = this.#judge.lopsided(counts);
    const diverted = lopsided.length === 0 ? none : await this.#diverted(lopsided, ofPods);
    this.#judge.step(counts, diverted);
  }

  /** Finds the lopsided interfaces with a program of another datapath; looks at most at `divertedLookedAtMax`. */
  async #diverted(
    lopsided: readonly Ifindex[],
    links: readonly LinkCounts[],
  ): Promise<ReadonlySet<Ifindex>> {
    const { datapath, view } = this.#o;
    // Not `ingress`: the CNI plugin `bandwidth` adds it where an annotation of the pod asks for a limit.
    const found = (await view.rtnetlink.qdiscs()).filter(({ kind }) => kind === 'clsact');
    const filtered = new Set(found.map(({ ifindex }) => ifindex));
    for (const { ifindex, hasXdp } of links) if (hasXdp) filtered.add(ifindex);
    const looked = lopsided.slice(0, divertedLookedAtMax);
    return new Set(looked.filter((each) => filtered.has(each) || datapath.hasOthers(each)));
  }
}

/** Null: the module is not loaded. */
function readSetting(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return null;
  }
}
