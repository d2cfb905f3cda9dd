// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The machine, as a DNS worker uses it: clock, timers, maps, sockets, links and random numbers. Two implement it:
 * system-linux.ts over the kernel, and the simulator's over a virtual node (docs/adr/0006-simulation.md). Nothing here is
 * called for each query: loops call once a batch, the rest is called now and then.
 */

import type { BpfMap } from '@tandem/bpf-loader-node/map';
import type { BpfProgram } from '@tandem/bpf-loader-node/program';
import type { HashKey } from '@tandem/core/dns/name-hash';
import type { GroupIndex } from '@tandem/core/ids';
import type { EndpointLookup } from '@tandem/datapath/agent-table';
import type { NodeGroup } from '@tandem/datapath/group';
import type { UdpLoop, UdpLoopOptions } from '@tandem/dns-sockets/udp-loop';
import type { JournalRegion } from '../journal/region.ts';
import type { ListenerHandle } from '../listener-kinds.ts';
import type { PeerSockets } from '../peer/peer-sockets.ts';
import type { RandomSource } from '../query/random.ts';
import type { TurnTimer } from '../services/turns.ts';
import type { TcpSystem } from '../tcp/stream.ts';
import type { SocketHandle, UpstreamAddress } from '../udp/upstream-sockets.ts';
import type { FromWorker } from '../worker-messages.ts';

export interface MemberSystem {
  readonly clock: MemberClock;
  readonly timers: MemberTimers;
  readonly maps: MemberMaps;
  readonly sockets: MemberSockets;
  readonly links: PeerSockets;
  readonly random: MemberRandom;
  /** To the main thread of the process. */
  readonly post: (message: FromWorker) => void;
  /** The member begins to serve, and allocates next to nothing from now on: its start leaves no garbage behind. */
  readonly collectStartGarbage: () => void;
  /** Ends the thread; its descriptors are closed already. */
  readonly exit: () => void;
}

export interface MemberClock {
  /** Writes [0] CLOCK_MONOTONIC and [1] CLOCK_BOOTTIME, ns. */
  readInto(clock: Float64Array): void;
}

export interface MemberTimers {
  /** Calls `work` once, `ms` from now. */
  readonly after: (ms: number, work: () => void) => void;
  /** Comes after the sockets that were ready: datagrams that came during a stop are read before a timeout is due. */
  readonly tick: TurnTimer;
}

/** Pinned maps and programs, in the version that was in force at the last `reopen`. */
export interface MemberMaps {
  readonly group: NodeGroup;
  readonly learnRequests: Pick<BpfMap, 'mmap'>;
  endpoints(): Pick<EndpointLookup, 'lookupInto'>;
  learn(): Pick<BpfProgram, 'runSyscall'>;
  /** The region of a member in the journal, mapped until `unmapJournal`. */
  mapJournal(member: GroupIndex): JournalRegion;
  unmapJournal(region: JournalRegion): void;
  /** An agent swapped programs in. */
  reopen(): void;
  close(): void;
}

export type LoopOptions<Handle extends number = number> = Pick<
  UdpLoopOptions<Handle>,
  'buffer' | 'onBatch' | 'onSocketError'
>;

export interface MemberSockets {
  /** Loop of the listeners. It also writes sender and destination of each datagram into `buffer`. */
  createListenerLoop(options: LoopOptions<ListenerHandle>): UdpLoop<ListenerHandle>;
  createUpstreamLoop(options: LoopOptions<SocketHandle>): UdpLoop<SocketHandle>;
  /** A connected socket. */
  readonly openUpstream: (server: UpstreamAddress) => number;
  readonly closeUpstream: (fd: number) => void;
  readonly tcp: TcpSystem;
  /**
   * Opens this member's listeners and puts them into the group's array, all or none. Descriptors by td_listener_kind.
   * @throws DnsSocketError, BpfError
   */
  openListeners(mark: number): readonly number[];
  /** Whether datagrams of pods that ask much go to the second sockets of `listeners`. */
  useHeavy(listeners: readonly number[], isUsed: boolean): void;
  /** From now on packets with this mark pass. */
  guardListeners(listeners: readonly number[], mark: number): void;
  /** Puts the program that chooses members back, in its version of the last `reopen`. */
  attachSelector(listeners: readonly number[]): void;
  /** Larger buffers for another member's listeners, where this process may. */
  enlargeBuffers(listeners: readonly number[]): void;
  readonly closeFd: (fd: number) => void;
}

export interface MemberRandom {
  /** Query ids and choices of sockets. */
  readonly u16: RandomSource;
  /** For a table of hashes. */
  seed(): number;
  key(): HashKey;
}
