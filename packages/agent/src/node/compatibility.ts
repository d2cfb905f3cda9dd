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
import type { NetworkView } from '@tandem/netlink/network-view';
import type { PodInterface } from '../endpoint/pod-interface.ts';
import { bridgeFamilies, unseenBridges } from './bridge-netfilter.ts';
import { ipvsEvidence, ipvsInterface } from './ipvs.ts';
import { JudgeWatch, judgedOf } from './judge-watch.ts';

export interface CompatibilityOptions {
  readonly datapath: Datapath;
  readonly view: NetworkView;
  /** Interfaces of the pods under policy. */
  readonly interfaces: () => readonly PodInterface[];
}

export class Compatibility {
  readonly #o: CompatibilityOptions;
  readonly #judge = new JudgeWatch();
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
    if (interfaces.length === 0 || datapath.isUnpinned()) return;
    const ours = new Set(interfaces.map(({ vethIfindex }) => vethIfindex));
    const before = judgedOf(readCounters(datapath));
    const counts = await view.rtnetlink.linkCounts();
    const after = judgedOf(readCounters(datapath));
    const filtered = await this.#filtered();
    this.#judge.step({
      before,
      interfaces: counts
        .filter(({ ifindex }) => ours.has(ifindex))
        .map((each) => {
          const { ifindex, hasXdp } = each;
          const isDiverted = hasXdp || filtered.has(ifindex) || datapath.hasOthers(ifindex);
          return { ...each, isDiverted };
        }),
      after,
    });
  }

  /** Interfaces with classic filters of tc. */
  async #filtered(): Promise<ReadonlySet<Ifindex>> {
    const qdiscs = await this.#o.view.rtnetlink.qdiscs();
    const filtering = qdiscs.filter(({ kind }) => kind === 'clsact' || kind === 'ingress');
    return new Set(filtering.map(({ ifindex }) => ifindex));
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
