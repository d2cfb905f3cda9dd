// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The node's BPF programs and maps: pinned and attached, so that they work on while neither process runs. The
 * agent loads them (load.ts).
 */

import { existsSync, readdirSync, rmSync, unlinkSync } from 'node:fs';
import { BpfError } from '@tandem/bpf-loader-node/errors';
import { BpfLink, queryTcx } from '@tandem/bpf-loader-node/link';
import { ensureTcxPins } from '@tandem/bpf-loader-node/link-pins';
import { BpfMap } from '@tandem/bpf-loader-node/map';
import { BpfProgram } from '@tandem/bpf-loader-node/program';
import type { Ifindex } from '@tandem/core/ids';
import { TD_ABI_VERSION } from './abi.gen.ts';
import { AgentTable, type EndpointLookup, MigratedEndpoints } from './agent-table.ts';
import {
  type NodeDevices,
  readPodBridges,
  readWord,
  word,
  writeNodeDevices,
  writePodMac,
} from './device-maps.ts';
import { makeDirectory } from './directories.ts';
import { attachJudge, isAbsent, judgeLinks, openLink } from './hook-links.ts';
import { migrationBetween } from './migrations.ts';
import {
  type AgentMapName,
  agentMaps,
  type LaterMapName,
  type MapName,
  type PinPaths,
  type ProgramName,
  pinPaths,
} from './paths.ts';
import { isAgentMap } from './present-maps.ts';
import { memberAbi } from './schema.ts';

/** Host side of a pod's veth. */
export interface PodVeth {
  readonly ifindex: Ifindex;
  /** Ethernet address of the pod behind a bridge port, the only one that it may claim; null: it is not compared. */
  readonly mac: Uint8Array | null;
}

/**
 * Ours is the first on ingress, so that nothing redirects before the source is verified, and the last on egress, so that nothing
 * rewrites after the port is restored. `to_pod` comes first: without it a query that `from_pod` steers has no answer.
 */
const vethPrograms = [
  { name: 'to_pod', direction: 'egress', place: 'last' },
  { name: 'from_pod', direction: 'ingress', place: 'first' },
] as const;
/** The first, as it rewrites nothing: a program before it that ends the chain would switch it off. */
const exitProgram = { name: 'guard_exit', direction: 'egress', place: 'first' } as const;
const firstPrograms = [{ name: 'from_pod', direction: 'ingress' }, exitProgram] as const;

export class Datapath implements Disposable {
  #paths: PinPaths;
  #abi: number;
  readonly #maps = new Map<MapName, BpfMap>();
  readonly #programs = new Map<ProgramName, BpfProgram>();
  readonly #tables = new Map<AgentMapName, AgentTable>();
  readonly #isMember: boolean;
  readonly #kept: number;
  /** Links that stay attached while the agent runs, also if another process removes the pins. */
  readonly #held = new Map<string, BpfLink>();
  /** Interfaces of `introducePods` whose programs were not tried yet. */
  readonly #introduced = new Set<Ifindex>();

  /** `kept`: the older ABI version whose maps are kept in step; the own one when there is none. */
  protected constructor(root: string, abi: number, isMember: boolean, kept: number) {
    this.#abi = abi;
    this.#paths = pinPaths(root, abi);
    this.#isMember = isMember;
    this.#kept = kept;
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
   * Opens the pinned maps and programs. A member that is not the agent may only read the agent's maps, but for the ring
   * of events, whose reader moves its position; it uses those of the agent's version when that is older
   * than its own.
   * @throws BpfError NOT_FOUND when the agent never ran since boot.
   */
  static open(pinRoot: string, options: { readonly isMember?: boolean } = {}): Datapath {
    return new Datapath(pinRoot, memberAbi(pinRoot), options.isMember === true, TD_ABI_VERSION);
  }

  /**
   * After an agent swapped programs in (`group.loads` moved): maps and programs of its version are opened again when
   * they are asked for. Maps and programs taken before are closed.
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

  /**
   * Ids of endpoints that ask much now, most first; null: only the agent has the map, which is not pinned.
   * `nowNs`: CLOCK_MONOTONIC.
   */
  heavyEndpoints(_nowNs: number): readonly number[] | null {
    return null;
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

  /** @returns the entries that were not written, in words */
  setNodeDevices(devices: NodeDevices): readonly string[] {
    return writeNodeDevices((name) => this.map(name), devices, true);
  }

  /**
   * Whether another program runs before `from_pod` on the host side of a pod's veth, or before `guard_exit` on a port of a bridge
   * of pods, asked of the kernel: it can redirect packets before their source is verified, or let them past the guard.
   * @throws BpfError NOT_FOUND: no such interface
   */
  isPreceded(ifindex: Ifindex): boolean {
    return firstPrograms.some(({ name, direction }) => {
      const { id } = this.program(name);
      const { programs } = queryTcx(ifindex, direction);
      return programs.findIndex(({ programId }) => programId === id) > 0;
    });
  }

  /** Whether another tcx program sees what comes in by a pod's interface; false: that interface is gone, too. */
  hasOthers(ifindex: Ifindex): boolean {
    const { id } = this.program('from_pod');
    try {
      return queryTcx(ifindex, 'ingress').programs.some(({ programId }) => programId !== id);
    } catch (error) {
      if (error instanceof BpfError && error.code === 'TANDEM_BPF_NOT_FOUND') return false;
      throw error;
    }
  }

  /**
   * Says before `attachEndpoints` that these interfaces are pods', where `judge` was never attached: `to_pod` drops what a bridge
   * switches from an interface that it does not know, and the first pods would be cut off from those that come last. Where `judge` is
   * attached it does nothing, because `judge` would believe sources that `from_pod` does not verify yet: then it gives false.
   */
  introducePods(ifindexes: readonly Ifindex[]): boolean {
    if (this.hasJudged()) return false;
    for (const ifindex of ifindexes) {
      this.#introduced.add(ifindex);
      try {
        this.addPodDevice(ifindex);
      } catch {
        // The interface is gone, as `attachEndpoints` says.
      }
    }
    return true;
  }

  /**
   * Puts `to_pod` and `from_pod` on the host sides of pods' veths, at most `tcxPinsMax` of them, or swaps in this version's, and
   * then lets `judge` believe what comes in there. On another thread, because the kernel waits at each link. Gives what failed, by
   * interface; the others are attached.
   */
  async attachEndpoints(veths: readonly PodVeth[]): Promise<ReadonlyMap<Ifindex, string>> {
    const problems = new Map<Ifindex, string>();
    const forEach = (work: (veth: PodVeth) => void): void => {
      for (const veth of veths) {
        if (problems.has(veth.ifindex)) continue;
        try {
          work(veth);
        } catch (error) {
          problems.set(veth.ifindex, messageOf(error));
        }
      }
    };
    forEach(({ ifindex, mac }) => writePodMac(this.map('pod_macs'), ifindex, mac));
    const ifindexes = veths.map(({ ifindex }) => ifindex);
    for (const each of vethPrograms) await this.#pinLinks(each, ifindexes, problems);
    forEach(({ ifindex }) => this.addPodDevice(ifindex));
    for (const { ifindex } of veths) {
      // An interface that judge believes stays believed, whatever this process cannot read of it now.
      const isIntroduced = this.#introduced.delete(ifindex) && problems.has(ifindex);
      if (isIntroduced && !this.#isVerified(ifindex)) this.map('pod_devices').delete(word(ifindex));
    }
    return problems;
  }

  /** Removes interfaces for which `isWanted` is false: first from what `judge` believes, then their links. */
  detachEndpoints(isWanted: (ifindex: Ifindex) => boolean): number {
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

  /** Has `guard_exit` at these ports of bridges of pods, at most `tcxPinsMax`. Gives what failed, by interface. */
  async guardExits(ports: readonly Ifindex[]): Promise<ReadonlyMap<Ifindex, string>> {
    const problems = new Map<Ifindex, string>();
    await this.#pinLinks(exitProgram, ports, problems);
    return problems;
  }

  /** Removes `guard_exit` from all other interfaces. */
  unguardExits(isWanted: (ifindex: Ifindex) => boolean): void {
    for (const name of readdirSync(this.paths.links)) {
      const match = /^guard_exit_(\d+)$/.exec(name);
      if (match !== null && !isWanted(Number(match[1]))) unlinkSync(this.paths.link(name));
    }
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

  /** Whether the pins of the maps were removed: nothing outlives this process then. */
  isUnpinned(): boolean {
    return !existsSync(this.paths.map('group'));
  }

  [Symbol.dispose](): void {
    for (const link of this.#held.values()) link[Symbol.dispose]();
    for (const table of this.#tables.values()) table[Symbol.dispose]();
    for (const map of this.#maps.values()) map[Symbol.dispose]();
    for (const program of this.#programs.values()) program[Symbol.dispose]();
  }

  /** Attaches `judge` for the first time, and pins or attaches it again where its pin was removed. */
  ensureJudging(): void {
    // A link to programs whose maps are pinned nowhere would be taken for its own by the next agent.
    if (this.isUnpinned()) return;
    makeDirectory(this.paths.links);
    for (const [name, link] of this.#held) {
      if (!existsSync(this.paths.link(name))) link.pin(this.paths.link(name));
    }
    if (this.isJudging()) return;
    attachJudge(this);
    this.holdLinks();
  }

  /** Whether `judge` was attached, by this process or one before: at one hook, at least. */
  protected hasJudged(): boolean {
    return (
      this.#held.size > 0 || judgeLinks().some(({ name }) => existsSync(this.paths.link(name)))
    );
  }

  /** From now on `judge` believes what comes in there. */
  protected addPodDevice(ifindex: Ifindex): void {
    const devices = this.map('pod_devices');
    const key = word(ifindex);
    if (devices.lookup(key) === null) devices.update(key, key);
  }

  protected holdLinks(): void {
    for (const { name } of judgeLinks()) {
      const link = openLink(this.paths, name);
      if (link === null) continue;
      this.#held.get(name)?.[Symbol.dispose]();
      this.#held.set(name, link);
    }
  }

  /** Whether `from_pod` is there for certain. */
  #isVerified(ifindex: Ifindex): boolean {
    try {
      using link = BpfLink.openPinned(this.paths.link(`from_pod_${ifindex}`));
      const info = link.info();
      return info.kind === 'tcx' && info.ifindex === ifindex;
    } catch {
      return false;
    }
  }

  async #pinLinks(
    { name, direction, place }: (typeof vethPrograms)[number] | typeof exitProgram,
    all: readonly Ifindex[],
    problems: Map<Ifindex, string>,
  ): Promise<void> {
    const ifindexes = all.filter((each) => !problems.has(each));
    try {
      const program = this.program(name);
      const prefix = this.paths.link(`${name}_`);
      const errors = await ensureTcxPins({ program, direction, place, prefix, ifindexes });
      for (const [at, error] of errors.entries()) {
        if (error !== null) problems.set(ifindexes[at]!, error.message);
      }
    } catch (error) {
      for (const each of ifindexes) problems.set(each, messageOf(error));
    }
  }
}

/** Removes every pin of a node: its programs are detached, its policy is gone. For uninstall and tests. */
export function removePins(pinRoot: string): void {
  if (!existsSync(pinRoot)) return;
  // Links first: a root program whose array is cleared would drop what it should not see at all.
  rmSync(pinPaths(pinRoot).links, { recursive: true, force: true });
  rmSync(pinRoot, { recursive: true });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
