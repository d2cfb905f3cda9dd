// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The datapath as the agent loads it: this version's programs over the pinned maps and links, swapped in place, never
 * detached; and the parts that it restores after their removal.
 */

import { existsSync, readdirSync } from 'node:fs';
import { BpfLink } from '@tandem/bpf-loader-node/link';
import { BpfMap } from '@tandem/bpf-loader-node/map';
import { BpfObject } from '@tandem/bpf-loader-node/object';
import { TD_ABI_VERSION } from './abi.gen.ts';
import { type DatapathConfig, encodeConfig } from './config.ts';
import { Datapath } from './datapath.ts';
import { type NodeDevices, writeNodeDevices } from './device-maps.ts';
import { NodeGroup } from './group.ts';
import { readHeavyEndpoints } from './heavy-endpoints.ts';
import { attachGuard, attachJudge, fillSlots, guardLinks, guardPlace } from './hook-links.ts';
import { type MapName, type ProgramName, pinPaths, programNames } from './paths.ts';
import {
  makeDirectories,
  proxyPins,
  removeOlder,
  removeRetired,
  replacePin,
  shareWithProxy,
} from './pins.ts';
import { allMaps, fillMigrated, isAgentMap, outgrown, reusePins } from './present-maps.ts';
import { hasSharedMaps, planPins } from './schema.ts';

export interface LoadOptions {
  /** tandem.bpf.o. */
  readonly objectPath: string;
  /** The node's directory in a bpffs. */
  readonly pinRoot: string;
  readonly config: DatapathConfig;
  /** Group of the DNS proxy: may write the shared maps. */
  readonly sharedGid: number;
  /** Devices of the node as they are now: written to the maps before any program runs. */
  readonly devices: NodeDevices;
  /** cgroup v2 mount for the guard of port P; 'auto': the one of this node; null: no guard. */
  readonly cgroupPath: string | null;
}

/**
 * Parts that enforcement does not need while the agent runs: complete pins, pins that the DNS proxy may open, the guard of
 * port P, and the removal of pins of versions that no agent can go back to.
 */
export type SidePart = 'pins' | 'sharing' | 'guard' | 'removal';

/** Null if there is no descriptor left: only `status` needs it, and a start must not end for that. */
function duplicateOf({ fd }: BpfMap): BpfMap | null {
  try {
    return BpfMap.fromFd(fd);
  } catch {
    return null;
  }
}

export class LoadedDatapath extends Datapath {
  readonly #options: LoadOptions;
  #removesRetired = false;
  readonly #problems = new Map<SidePart, string>();
  #queryPace: BpfMap | null = null;

  private constructor(options: LoadOptions, kept: number) {
    super(options.pinRoot, TD_ABI_VERSION, false, kept);
    this.#options = options;
  }

  /**
   * Loads the programs over the pinned maps, swaps them in, and attaches those that are not attached.
   * Until the kernel has taken all of them nothing changes. One process at a time: the caller holds
   * the agent's index.
   * @throws BpfError with the verifier's log when the kernel refuses; SchemaError when the pins are of a
   * version that this one does not know
   */
  static load(options: LoadOptions): LoadedDatapath {
    const plan = planPins(options.pinRoot);
    const paths = pinPaths(options.pinRoot);
    using object = BpfObject.open(options.objectPath);
    object.setRodata('td_config', encodeConfig(options.config));
    const isFresh = outgrown(options.pinRoot, plan);
    reusePins(object, options.pinRoot, plan, isFresh);
    object.load();
    const isUpgraded = hasSharedMaps(options.pinRoot);
    makeDirectories(paths);
    if (plan.migration !== null) fillMigrated(object, options.pinRoot, plan);
    const proxy = proxyPins(paths, options.sharedGid);
    for (const name of allMaps) {
      const isOther = (plan.migration !== null && isAgentMap(name)) || isFresh.has(name);
      if (isOther || !existsSync(paths.map(name)))
        replacePin(object.map(name), paths.map(name), proxy);
    }
    const datapath = new LoadedDatapath(options, plan.kept);
    // Nothing goes: which bridges have pods is known once their interfaces are.
    writeNodeDevices((name) => datapath.map(name), options.devices, false);
    datapath.#nameAttached();
    // A slot is filled before its root is attached: an empty one drops.
    fillSlots(object);
    for (const name of programNames) replacePin(object.program(name), paths.program(name), proxy);
    // Where nothing was enforced yet, running pods are cut off by a judge that knows none of them (ADR 12).
    if (datapath.hasJudged()) attachJudge(datapath);
    datapath.#hold();
    datapath.#queryPace = duplicateOf(object.map('query_pace'));
    datapath.#swapVeths();
    // Members open the pins when `loads` changes.
    datapath.#do('sharing');
    datapath.#announce();
    datapath.#do('guard');
    // Not at the start that brings the new ones: a member of the version before may start again.
    datapath.#removesRetired = isUpgraded;
    datapath.#do('removal');
    return datapath;
  }

  /** Side parts that failed, with the reason. */
  get problems(): ReadonlyMap<SidePart, string> {
    return this.#problems;
  }

  /**
   * Tries failed steps again, and restores removed pins. Never throws.
   * @returns maps and programs whose pins were missing and are there again
   */
  repair(): readonly string[] {
    const restored: string[] = [];
    if (this.#missingPins().length > 0) {
      restored.push(...this.#missingPins());
      this.#do('pins');
      this.#do('sharing');
    }
    for (const part of [...this.#problems.keys()]) {
      this.#do(part);
      if (part === 'sharing' && !this.#problems.has(part)) this.#announce();
    }
    if (!this.#problems.has('guard') && !this.#isGuarded()) this.#do('guard');
    return this.#problems.has('pins') ? [] : restored;
  }

  override heavyEndpoints(nowNs: number): readonly number[] | null {
    const paces = this.#queryPace;
    const { datagramsPerSecond } = this.#options.config;
    return paces === null ? null : readHeavyEndpoints(paces, datagramsPerSecond, nowNs);
  }

  override [Symbol.dispose](): void {
    this.#queryPace?.[Symbol.dispose]();
    super[Symbol.dispose]();
  }

  /** Names of maps and programs without their pins; none where all of them are gone: see isUnpinned. */
  #missingPins(): (MapName | ProgramName)[] {
    // Without the directory of the agent's index the next agent could not know of this one.
    if (!existsSync(this.paths.member(0))) return [];
    return [
      ...allMaps.filter((name) => !existsSync(this.paths.map(name))),
      ...programNames.filter((name) => !existsSync(this.paths.program(name))),
    ];
  }

  /** From descriptors that are held, so their objects were never detached. */
  #restorePins(): void {
    makeDirectories(this.paths);
    const missing = new Set<string>(this.#missingPins());
    const proxy = proxyPins(this.paths, this.#options.sharedGid);
    for (const name of allMaps) {
      if (missing.has(name)) replacePin(this.map(name), this.paths.map(name), proxy);
    }
    for (const name of programNames) {
      if (missing.has(name)) replacePin(this.program(name), this.paths.program(name), proxy);
    }
  }

  /** Enforcement must not wait for any of these, nor end with their failure. */
  #do(part: SidePart): void {
    try {
      const { pinRoot, sharedGid, cgroupPath } = this.#options;
      if (part === 'pins') this.#restorePins();
      else if (part === 'sharing') shareWithProxy(this.paths, sharedGid);
      else if (part === 'removal') this.#remove(pinRoot);
      else if (cgroupPath !== null) attachGuard(this, guardPlace(cgroupPath));
      this.#problems.delete(part);
    } catch (error) {
      this.#problems.set(part, error instanceof Error ? error.message : String(error));
    }
  }

  #remove(pinRoot: string): void {
    removeOlder(pinRoot, this.keptAbi);
    if (this.#removesRetired) removeRetired(this.paths);
  }

  #isGuarded(): boolean {
    if (this.#options.cgroupPath === null) return true;
    return guardLinks.every(([program]) => existsSync(this.paths.link(program)));
  }

  /** Interfaces that an agent of before `pod_devices` attached to. */
  #nameAttached(): void {
    for (const pin of readdirSync(this.paths.links)) {
      const index = Number(/^from_pod_(\d+)$/.exec(pin)?.[1] ?? 0);
      if (index === 0) continue;
      using link = BpfLink.openPinned(this.paths.link(pin));
      const info = link.info();
      if (info.kind === 'tcx' && info.ifindex === index) this.addPodDevice(index);
    }
  }

  /** Publishes the ABI version of the maps in force, and lets members open pins again. */
  #announce(): void {
    const group = new NodeGroup(this.map('group').mmap());
    group.announceLoad(this.keptAbi, this.#options.config);
  }

  /** Pods' interfaces do not wait for the source of policy: it may be away for long. */
  #swapVeths(): void {
    for (const pin of readdirSync(this.paths.links)) {
      const match = /^(from_pod|to_pod|guard_exit)_\d+$/.exec(pin);
      if (match === null) continue;
      const program = this.program(match[1] as 'from_pod' | 'to_pod' | 'guard_exit');
      using link = BpfLink.openPinned(this.paths.link(pin));
      const info = link.info();
      if (info.kind !== 'tcx' || info.ifindex === 0 || info.programId === program.id) continue;
      try {
        link.update(program);
      } catch {
        // The interface is going away, or the old program stays and enforces: attachEndpoint tries again.
      }
    }
  }

  /** With all maps: that of programs is emptied when neither a pin nor a descriptor is left. */
  #hold(): void {
    for (const name of allMaps) this.map(name);
    for (const name of programNames) this.program(name);
    this.holdLinks();
  }
}
