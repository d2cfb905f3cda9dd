// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// Programs at their hooks. A link lives as long as its BpfLink or a pin of it; it is never closed by
// garbage collection, because policy must not end at random: dispose it, or pin it.

import type { LinkId, ProgramId } from './ids.ts';
import { type Handle, handleKind, native, type RawLinkFacts } from './native.ts';
import { BpfProgram } from './program.ts';

export type TcxDirection = 'ingress' | 'egress';

/** A neighbour in the chain of tcx programs; 'all' = before the first or after the last. */
export type TcxAnchor =
  | BpfLink
  | BpfProgram
  | { readonly linkId: LinkId }
  | { readonly programId: ProgramId }
  | 'all';

export interface TcxOptions {
  readonly program: BpfProgram;
  readonly ifindex: number;
  readonly direction: TcxDirection;
  /** At most one of `before` and `after`; default: after all. */
  readonly before?: TcxAnchor;
  readonly after?: TcxAnchor;
}

/** NF_INET_*. */
export const netfilterHook = {
  preRouting: 0,
  localIn: 1,
  forward: 2,
  localOut: 3,
  postRouting: 4,
} as const;
export type NetfilterHook = keyof typeof netfilterHook;

/** NFPROTO_*. */
export const netfilterFamily = { ipv4: 2, ipv6: 10 } as const;
export type NetfilterFamily = keyof typeof netfilterFamily;

export interface NetfilterOptions {
  readonly program: BpfProgram;
  readonly family: NetfilterFamily;
  readonly hook: NetfilterHook;
  /** Lower runs first; the two extremes of int32 are reserved by the kernel. */
  readonly priority: number;
  /** Reassemble fragments first: needs a priority above -400; default false. */
  readonly defrag?: boolean;
}

/** enum bpf_attach_type of what can be attached to a cgroup here. */
export const cgroupAttach = {
  ingress: 0,
  egress: 1,
  sockCreate: 2,
  bind4: 8,
  bind6: 9,
  connect4: 10,
  connect6: 11,
  postBind4: 12,
  postBind6: 13,
  sendmsg4: 14,
  sendmsg6: 15,
} as const;
export type CgroupAttachType = keyof typeof cgroupAttach;

export interface CgroupOptions {
  readonly program: BpfProgram;
  /** A directory of cgroup v2; the program holds for it and all below. */
  readonly cgroupPath: string;
  readonly attachType: CgroupAttachType;
}

/** Facts of a link, by kind. `ifindex` 0: its interface is gone, or it was detached. */
export type LinkInfo =
  | {
      readonly kind: 'tcx';
      readonly id: LinkId;
      readonly programId: ProgramId;
      readonly ifindex: number;
      readonly direction: TcxDirection;
    }
  | {
      readonly kind: 'netfilter';
      readonly id: LinkId;
      readonly programId: ProgramId;
      /** NFPROTO_*. */
      readonly family: number;
      /** NF_INET_*. */
      readonly hook: number;
      readonly priority: number;
      readonly defrag: boolean;
    }
  | {
      readonly kind: 'cgroup';
      readonly id: LinkId;
      readonly programId: ProgramId;
      /** Inode of the cgroup's directory; 0n when it was detached. */
      readonly cgroupId: bigint;
      /** enum bpf_attach_type. */
      readonly attachType: number;
    }
  | {
      readonly kind: 'other';
      readonly id: LinkId;
      readonly programId: ProgramId;
      /** enum bpf_link_type. */
      readonly type: number;
    };

/** enum bpf_attach_type. */
export const tcxAttach = { ingress: 46, egress: 47 } as const;
/** BPF_F_BEFORE, BPF_F_AFTER. */
export const tcxFlag = { before: 8, after: 16 } as const;
const linkType = { cgroup: 3, netfilter: 10, tcx: 11 } as const;
const flagId = 1 << 5; // BPF_F_ID
const flagLink = 1 << 13; // BPF_F_LINK
const flagDefrag = 1; // BPF_F_NETFILTER_IP_DEFRAG

export class BpfLink implements Disposable {
  #handle: Handle;

  /** Internal: use the attach functions, `openPinned`, `fromFd` or `openId`. */
  constructor(handle: Handle) {
    this.#handle = handle;
  }

  /** @throws BpfError NOT_FOUND when there is no pin, KIND when it is no link. */
  static openPinned(path: string): BpfLink {
    return new BpfLink(native.openPinned(handleKind.link, path, 0));
  }

  /** Duplicates `fd`; the caller keeps its own. */
  static fromFd(fd: number): BpfLink {
    return new BpfLink(native.openFd(handleKind.link, fd));
  }

  /** Needs CAP_SYS_ADMIN. */
  static openId(id: LinkId): BpfLink {
    return new BpfLink(native.openId(handleKind.link, id));
  }

  /** Borrowed: valid while this link is not disposed. */
  get fd(): number {
    return native.handleFd(this.#handle);
  }

  /** The link then outlives this process. The path must lie in a bpffs and not exist. */
  pin(path: string): void {
    native.handlePin(this.#handle, path);
  }

  /** Swaps the program atomically. @throws BpfError for netfilter links: the kernel has no update. */
  update(program: BpfProgram): void {
    native.linkUpdate(this.#handle, program.handle);
  }

  /** Takes the program off its hook although pins and other fds remain. */
  detach(): void {
    native.linkDetach(this.#handle);
  }

  info(): LinkInfo {
    return linkInfo(native.linkInfo(this.#handle));
  }

  /** Closes the fd; an unpinned link is then detached by the kernel. Later use throws CLOSED. */
  [Symbol.dispose](): void {
    native.handleClose(this.#handle);
    this.#handle = 0;
  }
}

function linkInfo(facts: RawLinkFacts): LinkInfo {
  const { id, programId, type } = facts;
  switch (type) {
    case linkType.tcx:
      return {
        kind: 'tcx',
        id,
        programId,
        ifindex: facts.ifindex ?? 0,
        direction: facts.attachType === tcxAttach.egress ? 'egress' : 'ingress',
      };
    case linkType.netfilter:
      return {
        kind: 'netfilter',
        id,
        programId,
        family: facts.family ?? 0,
        hook: facts.hook ?? 0,
        priority: facts.priority ?? 0,
        defrag: ((facts.flags ?? 0) & flagDefrag) !== 0,
      };
    case linkType.cgroup:
      return {
        kind: 'cgroup',
        id,
        programId,
        cgroupId: facts.cgroupId ?? 0n,
        attachType: facts.attachType ?? 0,
      };
    default:
      return { kind: 'other', id, programId, type };
  }
}

function anchorFlags(anchor: TcxAnchor): { flags: number; relative: number } {
  if (anchor === 'all') return { flags: 0, relative: 0 };
  if (anchor instanceof BpfProgram) return { flags: 0, relative: anchor.fd };
  if (anchor instanceof BpfLink) return { flags: flagLink, relative: anchor.fd };
  if ('linkId' in anchor) return { flags: flagLink | flagId, relative: anchor.linkId };
  return { flags: flagId, relative: anchor.programId };
}

/** Attaches a tc program at an interface of this network namespace. */
export function attachTcx(options: TcxOptions): BpfLink {
  const { before, after } = options;
  if (before !== undefined && after !== undefined) {
    throw new TypeError('a tcx program is attached before or after another, not both');
  }
  const anchor = before ?? after;
  const place = anchor === undefined ? { flags: 0, relative: 0 } : anchorFlags(anchor);
  const side = before !== undefined ? tcxFlag.before : after !== undefined ? tcxFlag.after : 0;
  return new BpfLink(
    native.linkAttachTcx(
      options.program.handle,
      options.ifindex,
      tcxAttach[options.direction],
      place.flags | side,
      place.relative,
    ),
  );
}

/** Attaches a netfilter program in this network namespace. */
export function attachNetfilter(options: NetfilterOptions): BpfLink {
  return new BpfLink(
    native.linkAttachNetfilter(
      options.program.handle,
      netfilterFamily[options.family],
      netfilterHook[options.hook],
      options.priority,
      options.defrag === true ? flagDefrag : 0,
    ),
  );
}

/**
 * Whether a BPF program of another process is attached to this netfilter hook at this priority, in this network namespace. It
 * attaches a program for a moment to find out, and leaves nothing behind. @throws BpfError: no netfilter program can be attached
 */
export function isNetfilterTaken(place: Omit<NetfilterOptions, 'program' | 'defrag'>): boolean {
  const { family, hook, priority } = place;
  return native.netfilterIsTaken(netfilterFamily[family], netfilterHook[hook], priority);
}

/** Attaches to a cgroup, beside the programs that are there. */
export function attachCgroup(options: CgroupOptions): BpfLink {
  return new BpfLink(
    native.linkAttachCgroup(
      options.program.handle,
      options.cgroupPath,
      cgroupAttach[options.attachType],
    ),
  );
}

/** Makes an sk_reuseport program choose the socket of the group that `socketFd` is in. */
export function attachReuseport(program: BpfProgram, socketFd: number): void {
  native.reuseportAttach(program.handle, socketFd);
}

/** The group chooses by hash again. @throws BpfError NOT_FOUND when no program was attached. */
export function detachReuseport(socketFd: number): void {
  native.reuseportDetach(socketFd);
}

export interface TcxChain {
  /** Changes with every change of the chain. */
  readonly revision: bigint;
  /** In the order of execution; `linkId` 0 for a program attached without a link. */
  readonly programs: readonly { readonly programId: ProgramId; readonly linkId: LinkId }[];
}

/** The tcx programs of an interface of this network namespace, ours and others'. */
export function queryTcx(ifindex: number, direction: TcxDirection): TcxChain {
  return native.tcxQuery(ifindex, tcxAttach[direction]);
}

/** Ids of all links of the kernel, in all namespaces. Needs CAP_SYS_ADMIN. */
export function* linkIds(): Generator<LinkId, void, undefined> {
  for (let id = native.nextId(handleKind.link, 0); id !== 0; ) {
    yield id;
    id = native.nextId(handleKind.link, id);
  }
}
