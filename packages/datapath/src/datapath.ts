// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The node's BPF programs and maps: loaded, pinned and attached so that they work on when no process of
 * ours lives. What is pinned already is used again; programs are swapped in place, never detached.
 */

import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  unlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { attachCgroup, attachNetfilter, attachTcx, BpfLink } from '@tandem/bpf-loader-node/link';
import { BpfMap } from '@tandem/bpf-loader-node/map';
import { BpfObject } from '@tandem/bpf-loader-node/object';
import { BpfProgram } from '@tandem/bpf-loader-node/program';
import { TD_ABI_VERSION, TD_MEMBERS_MAX, tdGroup } from './abi.gen.ts';
import { type DatapathConfig, encodeConfig } from './config.ts';
import {
  agentMaps,
  type MapName,
  type PinPaths,
  type ProgramName,
  pinPaths,
  programNames,
  sharedMaps,
} from './paths.ts';

/** Where `judge` looks: after NAT and filtering, before masquerading. */
const judgeHooks = [
  { hook: 'postRouting', priority: 90 },
  { hook: 'localIn', priority: 112 },
] as const;
const families = ['ipv4', 'ipv6'] as const;

export interface LoadOptions {
  /** tandem.bpf.o. */
  readonly objectPath: string;
  /** The node's directory in a bpffs. */
  readonly pinRoot: string;
  readonly config: DatapathConfig;
  /** Group of the DNS proxy: may write the shared maps. */
  readonly sharedGid: number;
  /** cgroup v2 mount for the guard of port P; null leaves it out. */
  readonly cgroupPath: string | null;
}

export class Datapath implements Disposable {
  readonly paths: PinPaths;
  readonly #maps = new Map<MapName, BpfMap>();
  readonly #programs = new Map<ProgramName, BpfProgram>();

  readonly #isMember: boolean;

  private constructor(paths: PinPaths, isMember: boolean) {
    this.paths = paths;
    this.#isMember = isMember;
  }

  /**
   * Loads the programs over what is pinned already, swaps them in, and attaches what is not attached.
   * @throws BpfError with the verifier's log when the kernel refuses.
   */
  static load(options: LoadOptions): Datapath {
    const paths = pinPaths(options.pinRoot);
    for (const directory of [paths.root, paths.shared, paths.version, paths.links]) {
      mkdirSync(directory, { recursive: true });
    }
    for (let index = 0; index < TD_MEMBERS_MAX; index++) {
      mkdirSync(paths.member(index), { recursive: true });
    }
    using object = BpfObject.open(options.objectPath);
    object.setRodata('td_config', encodeConfig(options.config));
    const maps = [...sharedMaps, ...agentMaps];
    const pinned = new Set(maps.filter((name) => existsSync(paths.map(name))));
    for (const name of pinned) object.reusePin(name, paths.map(name));
    object.load();
    for (const name of maps) {
      if (!pinned.has(name)) object.map(name).pin(paths.map(name));
    }
    // The slot is filled before the root is attached or swapped: an empty one drops.
    fillJudgeSlot(object);
    for (const name of programNames) replacePin(object.program(name), paths.program(name));
    shareWithProxy(paths, options.sharedGid);
    const datapath = Datapath.open(options.pinRoot);
    datapath.#initGroup();
    datapath.#attachJudge();
    if (options.cgroupPath !== null) datapath.#attachGuard(options.cgroupPath);
    return datapath;
  }

  /**
   * Opens what is pinned. A member that is not the agent may only read the agent's maps, but for the ring
   * of events, whose reader moves its position. @throws BpfError NOT_FOUND when the agent never ran since boot.
   */
  static open(pinRoot: string, options: { readonly isMember?: boolean } = {}): Datapath {
    return new Datapath(pinPaths(pinRoot), options.isMember === true);
  }

  map(name: MapName): BpfMap {
    let map = this.#maps.get(name);
    if (map === undefined) {
      const isReadOnly =
        this.#isMember && name !== 'events' && (agentMaps as readonly string[]).includes(name);
      map = BpfMap.openPinned(this.paths.map(name), { isReadOnly });
      this.#maps.set(name, map);
    }
    return map;
  }

  program(name: ProgramName): BpfProgram {
    let program = this.#programs.get(name);
    if (program === undefined) {
      program = BpfProgram.openPinned(this.paths.program(name));
      this.#programs.set(name, program);
    }
    return program;
  }

  /** Puts `from_pod` and `to_pod` on the host side of a pod's veth, or swaps in this version's. */
  attachEndpoint(ifindex: number): void {
    this.#attachVeth('from_pod', ifindex, 'ingress');
    this.#attachVeth('to_pod', ifindex, 'egress');
  }

  /** Removes the links of interfaces for which `isWanted` is false. */
  detachEndpoints(isWanted: (ifindex: number) => boolean): number {
    let detached = 0;
    for (const name of readdirSync(this.paths.links)) {
      const match = /^(?:from|to)_pod_(\d+)$/.exec(name);
      if (match === null || isWanted(Number(match[1]))) continue;
      unlinkSync(this.paths.link(name));
      detached += 1;
    }
    return detached;
  }

  /** Whether all four links of `judge` are in place, asked of the kernel. */
  isJudging(): boolean {
    return judgeLinks().every(({ name, priority }) => {
      using link = this.#openLink(name);
      const info = link?.info();
      return info?.kind === 'netfilter' && info.priority === priority;
    });
  }

  [Symbol.dispose](): void {
    for (const map of this.#maps.values()) map[Symbol.dispose]();
    for (const program of this.#programs.values()) program[Symbol.dispose]();
  }

  /** Attaches `judge` again where somebody removed its pin. */
  ensureJudging(): void {
    if (!this.isJudging()) this.#attachJudge();
  }

  #initGroup(): void {
    const key = new Uint8Array(4);
    const group = this.map('group');
    const value = group.lookup(key) ?? new Uint8Array(group.valueSize);
    const view = new DataView(value.buffer, value.byteOffset);
    if (view.getUint32(tdGroup.abi_version, true) !== 0) return;
    const words = new Uint32Array(group.mmap());
    Atomics.store(words, tdGroup.abi_version / 4, TD_ABI_VERSION);
  }

  /** Netfilter links have no update: the root stays attached, its tail call was swapped already. */
  #attachJudge(): void {
    const program = this.program('judge_root');
    for (const { name, hook, priority, family } of judgeLinks()) {
      using present = this.#openLink(name);
      if (present !== null) continue;
      using link = attachNetfilter({ program, family, hook, priority });
      link.pin(this.paths.link(name));
    }
  }

  #attachGuard(cgroupPath: string): void {
    for (const [program, attachType] of [
      ['guard_port4', 'bind4'],
      ['guard_port6', 'bind6'],
    ] as const) {
      using present = this.#openLink(program);
      if (present !== null) {
        present.update(this.program(program));
        continue;
      }
      using link = attachCgroup({ program: this.program(program), cgroupPath, attachType });
      link.pin(this.paths.link(program));
    }
  }

  #attachVeth(name: 'from_pod' | 'to_pod', ifindex: number, direction: 'ingress' | 'egress'): void {
    const pin = `${name}_${ifindex}`;
    const program = this.program(name);
    using present = this.#openLink(pin);
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

  #openLink(name: string): BpfLink | null {
    const path = this.paths.link(name);
    return existsSync(path) ? BpfLink.openPinned(path) : null;
  }
}

function judgeLinks(): {
  name: string;
  hook: (typeof judgeHooks)[number]['hook'];
  priority: number;
  family: (typeof families)[number];
}[] {
  return judgeHooks.flatMap(({ hook, priority }) =>
    families.map((family) => ({ name: `judge_${hook}_${family}`, hook, priority, family })),
  );
}

function fillJudgeSlot(object: BpfObject): void {
  const value = new Uint8Array(4);
  new DataView(value.buffer).setUint32(0, object.program('judge').fd, true);
  object.map('judge_slot').update(new Uint8Array(4), value);
}

/** A pin can't be overwritten, but renamed over: nobody ever finds none. */
function replacePin(program: BpfProgram, path: string): void {
  const next = `${path}_next`;
  if (existsSync(next)) unlinkSync(next);
  program.pin(next);
  renameSync(next, path);
}

/** The proxy writes the shared maps and the position of the ring of events, and reads the rest; it owns none. */
function shareWithProxy(paths: PinPaths, gid: number): void {
  const members = Array.from({ length: TD_MEMBERS_MAX }, (_, index) => paths.member(index));
  for (const directory of [paths.root, paths.shared, paths.version, ...members]) {
    chownSync(directory, 0, gid);
    chmodSync(directory, 0o750);
  }
  for (const name of [...sharedMaps, 'events'] as const) {
    chownSync(paths.map(name), 0, gid);
    chmodSync(paths.map(name), 0o660);
  }
  for (const name of ['endpoints', 'counters'] as const) {
    chownSync(paths.map(name), 0, gid);
    chmodSync(paths.map(name), 0o640);
  }
  for (const name of ['learn', 'select_member'] as const) {
    chownSync(paths.program(name), 0, gid);
    chmodSync(paths.program(name), 0o660);
  }
}

/** Removes every pin of a node: its programs are detached, its policy is gone. For uninstall and tests. */
export function removePins(pinRoot: string): void {
  if (!existsSync(pinRoot)) return;
  // Links first: a root program whose array is cleared would drop what it should not see at all.
  for (const version of readdirSync(pinRoot).filter((name) => name.startsWith('v'))) {
    const links = join(pinRoot, version, 'links');
    if (existsSync(links)) rmSync(links, { recursive: true });
  }
  rmSync(pinRoot, { recursive: true });
}
