// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Drop events as the two processes tell them, and what the kernel counted. */

import { nameToText } from '@tandem/core/dns/name';
import { agentAdminPath, proxyAdminPath } from '@tandem/dns-proxy/config';
import type { DropReaderStatus } from '@tandem/proto/gen/messages';
import { EventType } from '@tandem/proto/gen/messages';
import { AdminService } from '@tandem/proto/gen/services';
import { GrpcClient } from '@tandem/runtime/grpc-client';
import { waitFor } from '@tandem/testing/wait';
import { proxyUid } from './shipped-privileges.ts';
import type { ProcessName, TandemNode } from './tandem-node.ts';

export function socketPath({ runDirectory }: TandemNode, name: ProcessName): string {
  return name === 'agent' ? agentAdminPath(runDirectory) : proxyAdminPath(runDirectory);
}

export function adminClient(tandem: TandemNode, name: ProcessName): GrpcClient {
  return new GrpcClient({ path: socketPath(tandem, name), serverUids: [proxyUid] });
}

export interface ToldDrops {
  /** "time source port -> destination port reason" of each, in the order told. */
  readonly keys: readonly string[];
  readonly timesNs: readonly number[];
  /** Losses by reason. */
  readonly lost: Readonly<Record<string, number>>;
}

/** The drop events to `port` that a process has, and all losses it tells of. */
export async function toldDrops(
  tandem: TandemNode,
  name: ProcessName,
  port: number,
): Promise<ToldDrops> {
  using client = adminClient(tandem, name);
  const keys: string[] = [];
  const timesNs: number[] = [];
  const lost: Record<string, number> = {};
  const request = { last: 100_000, type: EventType.EVENT_TYPE_DROP };
  for await (const { drop, dropReason, lostEvents } of client.serverStream(
    AdminService.observe,
    request,
  )) {
    if (lostEvents !== null) {
      lost[lostEvents.reason] = (lost[lostEvents.reason] ?? 0) + lostEvents.count;
    }
    if (drop === null || drop.destinationPort !== port) continue;
    keys.push(`${drop.timeNs} ${drop.sourcePort} -> ${drop.destinationPort} ${dropReason}`);
    timesNs.push(drop.timeNs);
  }
  return { keys, timesNs, lost };
}

/** Names of the DNS events that a process has. */
export async function toldNames(tandem: TandemNode, name: ProcessName): Promise<string[]> {
  using client = adminClient(tandem, name);
  const names: string[] = [];
  const request = { last: 100_000, type: EventType.EVENT_TYPE_DNS };
  for await (const { dns } of client.serverStream(AdminService.observe, request)) {
    if (dns !== null) names.push(nameToText(dns.name));
  }
  return names;
}

export async function dropReader(tandem: TandemNode, name: ProcessName): Promise<DropReaderStatus> {
  using client = adminClient(tandem, name);
  const { dropReader: reader } = await client.unary(AdminService.status, {});
  if (reader === null) throw new Error(`the ${name} does not tell who reads`);
  return reader;
}

/** Waits until the process `reader` reads, as `asked` sees it; returns ms that it took. */
export async function waitForReader(
  tandem: TandemNode,
  reader: ProcessName,
  asked: ProcessName,
): Promise<number> {
  const started = performance.now();
  const member = reader === 'agent' ? 0 : 1;
  await waitFor(
    async () => {
      const { isHeld, member: holder, ageMs } = await dropReader(tandem, asked);
      return isHeld && holder === member && ageMs < 1000;
    },
    { what: `the ${reader} to read drop events`, timeoutMs: 10_000 },
  );
  return performance.now() - started;
}
