// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The {@link MemberSystem} of a node: pins in a bpffs, sockets of the kernel, timers of the event loop. */

import { randomBytes } from 'node:crypto';
import { attachReuseport } from '@tandem/bpf-loader-node/link';
import { unmap } from '@tandem/bpf-loader-node/map';
import { Datapath } from '@tandem/datapath/datapath';
import { NodeGroup } from '@tandem/datapath/group';
import { clockInto } from '@tandem/dns-sockets/clock';
import { closeFd } from '@tandem/dns-sockets/fd';
import { startTick, stopTick } from '@tandem/dns-sockets/tick';
import { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import { createUpstreamUdp } from '@tandem/dns-sockets/upstream';
import { JournalRegion, regionBytes } from '../journal/region.ts';
import { batchMax, udpQueryBytesMax, udpReplyBytesMax } from '../limits.ts';
import { giveRoom, guardListeners, openListeners, useHeavy } from '../listeners.ts';
import { noListener } from '../peer/hello.ts';
import { unixPeerSockets } from '../peer/peer-sockets.ts';
import { RandomPool } from '../query/random.ts';
import { collectStartGarbage } from '../start-garbage.ts';
import { nodeTcpSystem } from '../tcp/stream-node.ts';
import type { FromWorker, WorkerOptions } from '../worker-messages.ts';
import type { MemberMaps, MemberSockets, MemberSystem } from './system.ts';

/** @throws BpfError, SchemaError: the pins cannot be opened */
export function linuxSystem(
  options: WorkerOptions,
  post: (message: FromWorker) => void,
): MemberSystem {
  const datapath = Datapath.open(options.pinRoot, { isMember: true });
  return {
    clock: { readInto: (clock) => void clockInto(clock) },
    timers: {
      after: (ms, work) => void setTimeout(work, ms),
      tick: (ms, run) => {
        startTick(ms, run);
        return stopTick;
      },
    },
    maps: mapsOf(datapath),
    sockets: socketsOf(datapath, options),
    random: {
      u16: new RandomPool(),
      seed: randomSeed,
      key: () => ({ low: randomSeed(), high: randomSeed() }),
    },
    links: unixPeerSockets(options.peerPath, options.ownerUid),
    post,
    collectStartGarbage,
    exit: () => process.exit(0),
  };
}

function mapsOf(datapath: Datapath): MemberMaps {
  return {
    group: new NodeGroup(datapath.map('group').mmap()),
    learnRequests: datapath.map('learn_requests'),
    endpoints: () => datapath.endpoints(),
    learn: () => datapath.program('learn'),
    // Of the whole map only what is in use: every page that is mapped counts as memory of the process.
    mapJournal: (member) => {
      const range = { offset: member * regionBytes, length: regionBytes };
      return new JournalRegion(datapath.map('journal2').mmap(range), member);
    },
    unmapJournal: ({ memory }) => unmap(memory as ArrayBuffer),
    reopen: () => datapath.reopen(),
    close: () => datapath[Symbol.dispose](),
  };
}

function socketsOf(datapath: Datapath, options: WorkerOptions): MemberSockets {
  return {
    createListenerLoop: (loop) =>
      new UdpLoop({
        ...loop,
        slots: batchMax,
        slotBytes: udpQueryBytesMax,
        metadataInBuffer: true,
      }),
    createUpstreamLoop: (loop) =>
      new UdpLoop({ ...loop, slots: batchMax, slotBytes: udpReplyBytesMax }),
    openUpstream: createUpstreamUdp,
    closeUpstream: closeFd,
    tcp: nodeTcpSystem,
    openListeners: (mark) => openListeners({ ...options, mark, datapath }),
    useHeavy: (listeners, isUsed) => useHeavy({ ...options, datapath }, listeners, isUsed),
    guardListeners,
    attachSelector: (listeners) => {
      const selector = datapath.program('select_member');
      for (const fd of listeners) if (fd !== noListener) attachReuseport(selector, fd);
    },
    enlargeBuffers: giveRoom,
    closeFd,
  };
}

function randomSeed(): number {
  return randomBytes(4).readInt32LE();
}
