// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The node's BPF programs and maps: loaded, pinned and attached so that they work on when no process of
 * ours lives. What is pinned already is used again; programs are swapped in place, never detached.
 */

import { existsSync, readdirSync, rmSync, unlinkSync } from 'node:fs';
import { attachTcx, BpfLink } from '@tandem/bpf-loader-node/link';
import { BpfMap } from '@tandem/bpf-loader-node/map';
import { BpfObject } from '@tandem/bpf-loader-node/object';
import { BpfProgram } from '@tandem/bpf-loader-node/program';
import { TD_ABI_VERSION } from './abi.gen.ts';
import { AgentTable, type EndpointLookup, MigratedEndpoints } from './agent-table.ts';
import { type DatapathConfig, encodeConfig } from './config.ts';
import {
  type NodeDevices,
  readPodBridges,
  readWord,
  word,
  writeNodeDevices,
  writePodMac,
} from './device-maps.ts';
import { makeDirectory } from './directories.ts';
import { NodeGroup } from './group.ts';
import {
  attachGuard,
  attachJudge,
  fillSlots,
  guardLinks,
  guardPlace,
  isAbsent,
  judgeLinks,
  openLink,
} from './hook-links.ts';
import { migrationBetween } from './migrations.ts';
import {
  type AgentMapName,
  agentMaps,
  type LaterMapName,
  type MapName,
  type PinPaths,
  type ProgramName,
  pinPaths,
  programNames,
} from './paths.ts';
import { makeDirectories, removeOlder, removeRetired, replacePin, shareWithProxy } from './pins.ts';
import { allMaps, fillMigrated, isAgentMap, isOutgrown, reusePins } from './present-maps.ts';
import { hasSharedMaps, memberAbi, planTakeover } from './schema.ts';

export interface LoadOptions {
  /** tandem.bpf.o. */
  readonly objectPath: string;
  /** The node's directory in a bpffs. */
  readonly pinRoot: string;
  readonly config: DatapathConfig;
  /** Group of the DNS proxy: may write the shared maps. */
  readonly sharedGid: number;
  /** Of the node, as it is now: in the maps before any program asks for them. */
  readonly devices: NodeDevices;
  /** cgroup v2 mount for the guard of port P; 'auto': the one of this node; null: no guard. */
  readonly cgroupPath: string | null;
}

/**
 * What enforcement does not need while the agent lives: that nothing is without its pin, pins that the DNS proxy may
 * open, the guard of port P, and the removal of pins of versions that no agent can go back to.
 */
export type SidePart = 'pins' | 'sharing' | 'guard' | 'removal';

export class Datapath implements Disposable {
  #paths: PinPaths;
  #abi: number;
  readonly #maps = new Map<MapName, BpfMap>();
  readonly #programs = new Map<ProgramName, BpfProgram>();
  readonly #tables = new Map<AgentMapName, AgentTable>();
  readonly #isMember: boolean;
  #kept: number = TD_ABI_VERSION;
  #options: LoadOptions | null = null;
  #removesRetired = false;
  /** Keep what enforces in force for as long as the agent lives, should somebody remove the pins. */
  readonly #held = new Map<string, BpfLink>();
  readonly #problems = new Map<SidePart, string>();

  private constructor(root: string, abi: number, isMember: boolean) {
    this.#abi = abi;
    this.#paths = pinPaths(root, abi);
    this.#isMember = isMember;
  }

  get paths(): PinPaths {
    return this.#paths;
  }

  /** ABI version whose maps and programs these are. */
  get abi(): number {
    return this.#abi;
  }

  /** The older ABI version whose maps are kept in step; the own one when there is none. */
  get keptAbi(): number {
    return this.#kept;
  }

  /**
   * Loads the programs over what is pinned already, swaps them in, and attaches what is not attached.
   * Until the kernel has taken all of them nothing changes. One process at a time: the caller has the
   * agent's lease.
   * @throws BpfError with the verifier's log when the kernel refuses; SchemaError when the pins are of a
   * version that this one does not know
   */
  static load(options: LoadOptions): Datapath {
    const takeover = planTakeover(options.pinRoot);
    const paths = pinPaths(options.pinRoot);
    using object = BpfObject.open(options.objectPath);
    object.setRodata('td_config', encodeConfig(options.config));
    const isFresh = new Set(allMaps.filter((name) => isOutgrown(name, paths)));
    reusePins(object, options.pinRoot, takeover, isFresh);
    object.load();
    const isUpgraded = hasSharedMaps(options.pinRoot);
    makeDirectories(paths);
    if (takeover.migration !== null) fillMigrated(object, options.pinRoot, takeover);
    for (const name of allMaps) {
      const isOther = (takeover.migration !== null && isAgentMap(name)) || isFresh.has(name);
      if (isOther || !existsSync(paths.map(name))) replacePin(object.map(name), paths.map(name));
    }
    const datapath = new Datapath(options.pinRoot, TD_ABI_VERSION, false);
    datapath.#options = options;
    datapath.#kept = takeover.kept;
    // Nothing goes: which bridges have pods is known once their interfaces are.
    writeNodeDevices((name) => datapath.map(name), options.devices, false);
    datapath.#nameAttached();
    // A slot is filled before its root is attached: an empty one drops.
    fillSlots(object);
    for (const name of programNames) replacePin(object.program(name), paths.program(name));
    // Where nothing was enforced yet, running pods are cut off by a judge that knows none of them (ADR 12).
    if (datapath.#hasJudged()) attachJudge(datapath);
    datapath.#hold();
    datapath.#swapVeths();
    // Members open the pins when they hear of them.
    datapath.#do('sharing');
    datapath.#announce();
    datapath.#do('guard');
    // Not at the start that brings the new ones: a member of the version before may start again.
    datapath.#removesRetired = isUpgraded;
    datapath.#do('removal');
    return datapath;
  }

  /** What could not be done beside enforcing, and why. */
  get problems(): ReadonlyMap<SidePart, string> {
    return this.#problems;
  }

  /**
   * Tries again what could not be done, and puts back what was removed. Never throws.
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

  /** Names of maps and programs without their pins; none where all of them are gone: see isUnpinned. */
  #missingPins(): (MapName | ProgramName)[] {
    // Without the directory that is the agent's lease the next agent could not know of this one.
    if (!existsSync(this.paths.member(0))) return [];
    return [
      ...allMaps.filter((name) => !existsSync(this.paths.map(name))),
      ...programNames.filter((name) => !existsSync(this.paths.program(name))),
    ];
  }

  /** From descriptors that are held, so what they stand for was never away. */
  #restorePins(): void {
    makeDirectories(this.paths);
    const missing = new Set<string>(this.#missingPins());
    for (const name of allMaps) {
      if (missing.has(name)) replacePin(this.map(name), this.paths.map(name));
    }
    for (const name of programNames) {
      if (missing.has(name)) replacePin(this.program(name), this.paths.program(name));
    }
  }

  /** Enforcement must not wait for any of these, nor end with their failure. */
  #do(part: SidePart): void {
    try {
      const { pinRoot, sharedGid, cgroupPath } = this.#loadOptions;
      if (part === 'pins') this.#restorePins();
      else if (part === 'sharing') shareWithProxy(this.#paths, sharedGid);
      else if (part === 'removal') this.#remove(pinRoot);
      else if (cgroupPath !== null) attachGuard(this, guardPlace(cgroupPath));
      this.#problems.delete(part);
    } catch (error) {
      this.#problems.set(part, error instanceof Error ? error.message : String(error));
    }
  }

  #remove(pinRoot: string): void {
    removeOlder(pinRoot, this.#kept);
    if (this.#removesRetired) removeRetired(this.#paths);
  }

  get #loadOptions(): LoadOptions {
    if (this.#options === null) throw new TypeError('opened, not loaded');
    return this.#options;
  }

  #isGuarded(): boolean {
    if (this.#options === null || this.#options.cgroupPath === null) return true;
    return guardLinks.every(([program]) => existsSync(this.paths.link(program)));
  }

  /**
   * Opens what is pinned. A member that is not the agent may only read the agent's maps, but for the ring
   * of events, whose reader moves its position; it uses those of the agent's version when that is older
   * than its own.
   * @throws BpfError NOT_FOUND when the agent never ran since boot.
   */
  static open(pinRoot: string, options: { readonly isMember?: boolean } = {}): Datapath {
    return new Datapath(pinRoot, memberAbi(pinRoot), options.isMember === true);
  }

  /**
   * After an agent swapped programs in (`group.loads` moved): what is of its version is opened anew when
   * it is asked for. Maps and programs taken before are closed.
   */
  reopen(): void {
    this.#abi = memberAbi(this.#paths.root);
    this.#paths = pinPaths(this.#paths.root, this.#abi);
    for (const name of agentMaps) {
      this.#maps.get(name)?.[Symbol.dispose]();
      this.#maps.delete(name);
    }
    for (const program of this.#programs.values()) program[Symbol.dispose]();
    this.#programs.clear();
  }

  /** One of the agent's maps for writing, in this version and in the one that is kept in step. */
  table(name: AgentMapName): AgentTable {
    let table = this.#tables.get(name);
    if (table === undefined) {
      const down = migrationBetween(TD_ABI_VERSION, this.#kept)?.maps[name];
      const kept =
        typeof down === 'function'
          ? {
              map: BpfMap.openPinned(pinPaths(this.#paths.root, this.#kept).map(name)),
              convert: down,
            }
          : null;
      table = new AgentTable(this.map(name), kept);
      this.#tables.set(name, table);
    }
    return table;
  }

  /** `endpoints` in this version's layout, whatever the agent's version. */
  endpoints(): EndpointLookup {
    const up = migrationBetween(this.#abi, TD_ABI_VERSION)?.maps.endpoints;
    const map = this.map('endpoints');
    return typeof up === 'function' ? new MigratedEndpoints(map, up) : map;
  }

  map(name: MapName): BpfMap {
    let map = this.#maps.get(name);
    if (map === undefined) {
      const isReadOnly = this.#isMember && name !== 'events' && isAgentMap(name);
      map = BpfMap.openPinned(this.paths.map(name), { isReadOnly });
      this.#maps.set(name, map);
    }
    return map;
  }

  /** One that an older agent may not have pinned: then null. */
  laterMap(name: LaterMapName): BpfMap | null {
    if (!this.#maps.has(name) && !existsSync(this.paths.map(name))) return null;
    return this.map(name);
  }

  program(name: ProgramName): BpfProgram {
    let program = this.#programs.get(name);
    if (program === undefined) {
      program = BpfProgram.openPinned(this.paths.program(name));
      this.#programs.set(name, program);
    }
    return program;
  }

  podBridges(): readonly string[] {
    return readPodBridges(this.map('pod_bridges'));
  }

  /** @returns what was not written, in words */
  setNodeDevices(devices: NodeDevices): readonly string[] {
    return writeNodeDevices((name) => this.map(name), devices, true);
  }

  /**
   * Puts `from_pod` and `to_pod` on the host side of a pod's veth, or swaps in this version's, and then lets
   * `judge` believe what comes in there. `mac`: of the pod behind a bridge port, the only one that it may claim.
   */
  attachEndpoint(ifindex: number, mac: Uint8Array | null = null): void {
    writePodMac(this.map('pod_macs'), ifindex, mac);
    this.#attachVeth('from_pod', ifindex, 'ingress');
    this.#attachVeth('to_pod', ifindex, 'egress');
    this.#addPodDevice(ifindex);
  }

  /** Removes interfaces for which `isWanted` is false: first from what `judge` believes, then their links. */
  detachEndpoints(isWanted: (ifindex: number) => boolean): number {
    let detached = 0;
    for (const name of ['pod_devices', 'pod_macs'] as const) {
      const map = this.map(name);
      for (const [key] of [...map.entries()]) if (!isWanted(readWord(key))) map.delete(key);
    }
    for (const name of readdirSync(this.paths.links)) {
      const match = /^(?:from|to)_pod_(\d+)$/.exec(name);
      if (match === null || isWanted(Number(match[1]))) continue;
      unlinkSync(this.paths.link(name));
      detached += 1;
    }
    return detached;
  }

  /** Whether the links of `judge` are in place in all families of the kernel, asked of it. */
  isJudging(): boolean {
    return judgeLinks().every(({ name, priority, family }) => {
      using pinned = openLink(this.paths, name);
      const link = pinned ?? this.#held.get(name) ?? null;
      if (link === null && isAbsent(family)) return true;
      const info = link?.info();
      return info?.kind === 'netfilter' && info.priority === priority;
    });
  }

  /** Whether somebody removed the pins of the maps: nothing outlives this process then. */
  isUnpinned(): boolean {
    return !existsSync(this.paths.map('group'));
  }

  [Symbol.dispose](): void {
    for (const link of this.#held.values()) link[Symbol.dispose]();
    for (const table of this.#tables.values()) table[Symbol.dispose]();
    for (const map of this.#maps.values()) map[Symbol.dispose]();
    for (const program of this.#programs.values()) program[Symbol.dispose]();
  }

  /** Attaches `judge` for the first time, and pins or attaches it again where somebody removed its pin. */
  ensureJudging(): void {
    // A link to programs whose maps are pinned nowhere would be taken for its own by the next agent.
    if (this.isUnpinned()) return;
    makeDirectory(this.paths.links);
    for (const [name, link] of this.#held) {
      if (!existsSync(this.paths.link(name))) link.pin(this.paths.link(name));
    }
    if (this.isJudging()) return;
    attachJudge(this);
    this.#holdLinks();
  }

  /** Whether a start before this one enforced. */
  #hasJudged(): boolean {
    return judgeLinks().some(({ name }) => existsSync(this.paths.link(name)));
  }

  /** Interfaces that an agent of before `pod_devices` attached to. */
  #nameAttached(): void {
    for (const pin of readdirSync(this.paths.links)) {
      const index = Number(/^from_pod_(\d+)$/.exec(pin)?.[1] ?? 0);
      if (index === 0) continue;
      using link = BpfLink.openPinned(this.paths.link(pin));
      const info = link.info();
      if (info.kind === 'tcx' && info.ifindex === index) this.#addPodDevice(index);
    }
  }

  #addPodDevice(ifindex: number): void {
    const devices = this.map('pod_devices');
    const key = word(ifindex);
    if (devices.lookup(key) === null) devices.update(key, key);
  }

  /** Tells members whose maps are in force, and to open pins anew. */
  #announce(): void {
    const group = new NodeGroup(this.map('group').mmap());
    group.announceLoad(this.#kept, this.#loadOptions.config);
  }

  /** Pods' interfaces do not wait for the source of policy: it may be away for long. */
  #swapVeths(): void {
    for (const pin of readdirSync(this.paths.links)) {
      const match = /^(from_pod|to_pod)_\d+$/.exec(pin);
      if (match === null) continue;
      const program = this.program(match[1] as 'from_pod' | 'to_pod');
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
    this.#holdLinks();
  }

  #holdLinks(): void {
    for (const { name } of judgeLinks()) {
      const link = openLink(this.paths, name);
      if (link === null) continue;
      this.#held.get(name)?.[Symbol.dispose]();
      this.#held.set(name, link);
    }
  }

  #attachVeth(name: 'from_pod' | 'to_pod', ifindex: number, direction: 'ingress' | 'egress'): void {
    const pin = `${name}_${ifindex}`;
    const program = this.program(name);
    using present = openLink(this.paths, pin);
    const info = present?.info();
    if (present !== null && info?.kind === 'tcx' && info.ifindex === ifindex) {
      if (info.programId !== program.id) present.update(program);
      return;
    }
    // A pin without interface: the interface went away and its index was given to another.
    if (present !== null) unlinkSync(this.paths.link(pin));
    // Ours is the first on ingress, so that nothing redirects before the source is verified, and the
    // last on egress, so that nothing rewrites after the port is restored.
    using link = attachTcx(
      direction === 'ingress'
        ? { program, ifindex, direction, before: 'all' }
        : { program, ifindex, direction, after: 'all' },
    );
    link.pin(this.paths.link(pin));
  }
}

/** Removes every pin of a node: its programs are detached, its policy is gone. For uninstall and tests. */
export function removePins(pinRoot: string): void {
  if (!existsSync(pinRoot)) return;
  // Links first: a root program whose array is cleared would drop what it should not see at all.
  rmSync(pinPaths(pinRoot).links, { recursive: true, force: true });
  rmSync(pinRoot, { recursive: true });
}
