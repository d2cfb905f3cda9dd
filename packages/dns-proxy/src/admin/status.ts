// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The answer to `Status`. */

import { release } from 'node:os';
import { TD_ABI_VERSION } from '@tandem/datapath/abi.gen';
import { familyNotes } from '@tandem/datapath/address-families';
import type { MemberStatus } from '@tandem/datapath/group';
import {
  type DropReaderStatusInit,
  type LaneStatusInit,
  type LearnedNamespaceInit,
  MemberRole,
  MemberState,
  type MemberStatusInit,
  type StatusResponseInit,
  type SyncStatusInit,
} from '@tandem/proto/gen/messages';
import { counter, queuedBytesIndex, queuedHeavyBytesIndex } from '../counters.ts';
import { backlogBytesMax } from '../sync/limits.ts';
import { version } from '../version.ts';
import type { AdminContext } from './context.ts';
import { type Degradation, degradation } from './degradation.ts';
import { boundedDiagnostics } from './diagnostics.ts';
import { heavyPodsMax } from './limits.ts';
import { nodeDegradations } from './node-degradations.ts';
import { processDegradations } from './process-degradations.ts';

const states = {
  none: MemberState.MEMBER_STATE_NONE,
  live: MemberState.MEMBER_STATE_LIVE,
  drain: MemberState.MEMBER_STATE_DRAIN,
  dead: MemberState.MEMBER_STATE_DEAD,
} as const;
const roles = {
  agent: MemberRole.MEMBER_ROLE_AGENT,
  'dns-proxy': MemberRole.MEMBER_ROLE_DNS_PROXY,
} as const;

/** All degradations, as this process sees them. */
export function degradations(context: AdminContext): readonly Degradation[] {
  const { kernel } = context;
  const diagnostics = context.diagnostics();
  const errors = diagnostics.filter(({ severity }) => severity === 'error').length;
  const members = kernel.members();
  const requiredRevision = kernel.requiredRevision();
  const maps = kernel.mapFill();
  kernel.learned();
  kernel.heavyEndpoints();
  kernel.counters();
  return [
    ...nodeDegradations({
      members,
      requiredRevision,
      appliedRevision: kernel.appliedRevision(),
      isJudging: kernel.isJudging(),
      maps,
    }),
    ...processDegradations({
      role: context.role,
      members,
      requiredRevision,
      policy: context.policy(),
      isExchangeConnected: context.exchange.isConnected,
      errors,
      warnings: diagnostics.length - errors,
    }),
    ...kernel.unreadable().map(unreadableProblem),
    ...context.ownDegradations(),
  ];
}

function unreadableProblem(what: string): Degradation {
  return degradation('kernel-values-unreadable', {
    message: `status does not show what this process cannot read from the kernel: ${what}`,
  });
}

export function statusOf(context: AdminContext): StatusResponseInit {
  const { kernel } = context;
  const { nodeName, ...policy } = context.policy();
  const counters = kernel.counters();
  return {
    version: {
      version,
      abiVersion: TD_ABI_VERSION,
      nodeVersion: process.version,
      kernelRelease: release(),
    },
    nodeName,
    role: roles[context.role],
    member: context.member,
    uptimeS: Math.floor((context.clock.monotonicMs() - context.startedMs) / 1000),
    members: kernel.members().map(memberMessage),
    policy: { ...policy, requiredRevision: kernel.requiredRevision() },
    sync: syncMessage(context),
    dropReader: dropReaderMessage(context, counters),
    maps: [...kernel.mapFill()],
    degraded: [...degradations(context)],
    notes: [...familyNotes(), ...context.ownNotes()],
    learned: learnedMessages(context),
    lanes: lanesMessage(context, counters),
    diagnostics: [...boundedDiagnostics(context.diagnostics())],
  };
}

/** The fullest first; the pool of offers has no name. */
function learnedMessages({ kernel, store }: AdminContext): LearnedNamespaceInit[] {
  return kernel
    .learned()
    .map(({ namespaceId, ...counts }) => ({
      namespace: namespaceId === 0 ? '' : store.endpoints.namespaceOf(namespaceId),
      ...counts,
    }))
    .toSorted((left, right) => right.used - left.used);
}

/** Counters of the kernel by lower-case name; none if they cannot be read, which `degraded` says. */
type KernelCounters = ReturnType<AdminContext['kernel']['counters']>;

function lanesMessage(
  { kernel, store, dnsCounters }: AdminContext,
  counters: KernelCounters,
): LaneStatusInit {
  const heavy = kernel.heavyEndpoints();
  return {
    selected: (counters['selected'] ?? 0) + (counters['selected_stale'] ?? 0),
    selectedHeavy: counters['selected_heavy'] ?? 0,
    queriesRefused: counters['drop_query_rate'] ?? 0,
    connectionsRefused: counters['drop_connect_rate'] ?? 0,
    queuedBytes: dnsCounters[queuedBytesIndex]!,
    queuedHeavyBytes: dnsCounters[queuedHeavyBytesIndex]!,
    dropped: dnsCounters[counter.queueDrops]!,
    droppedHeavy: dnsCounters[counter.queueDropsHeavy]!,
    knowsPods: heavy !== null,
    heavyPods: (heavy ?? [])
      .slice(0, heavyPodsMax)
      .map((id) => store.endpoints.podOf(id) || `endpoint ${id}`),
    heavyPodsTotal: heavy?.length ?? 0,
  };
}

function memberMessage(member: MemberStatus): MemberStatusInit {
  return {
    index: member.index,
    role: roles[member.role],
    state: states[member.state],
    pid: member.pid,
    epoch: member.epochNs,
    beatAgeUs: Math.max(0, Math.round(member.beatAgeMs * 1000)),
    revision: member.revision,
    isFresh: member.isServing,
  };
}

function dropReaderMessage(
  { drops, store }: AdminContext,
  counters: KernelCounters,
): DropReaderStatusInit | null {
  const reader = drops();
  if (reader === null) return null;
  const holder = reader.holder();
  return {
    isHeld: holder !== null,
    member: holder?.member ?? 0,
    generation: holder?.generation ?? 0,
    ageMs: Math.min(holder?.ageMs ?? 0, 0xffffffff),
    seen: store.drops.seen,
    missing: store.drops.missing,
    kernelLost: counters['events_lost'] ?? 0,
    kernelLimited: counters['events_limited'] ?? 0,
  };
}

function syncMessage({ exchange, exchangeError }: AdminContext): SyncStatusInit {
  const { outbox } = exchange;
  return {
    isConnected: exchange.isConnected,
    backlogBytes: outbox.waitingBytes,
    backlogBytesMax,
    eventsLost: outbox.eventsLost,
    mappingsLost: outbox.mappingsLost,
    sentSequence: outbox.lastSequence,
    ackedSequence: outbox.ackedSequence,
    lastError: exchangeError(),
    peerVersion: exchange.peerVersion,
  };
}
