// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Answers of the two processes on their admin sockets. */

import { nameToText } from '@tandem/core/dns/name';
import { formatAddress } from '@tandem/core/net/ip';
import { agentAdminPath, proxyAdminPath } from '@tandem/dns-proxy/config';
import type { EndpointEntry, StatusResponse } from '@tandem/proto/gen/messages';
import { AdminService } from '@tandem/proto/gen/services';
import { GrpcClient } from '@tandem/runtime/grpc-client';
import { waitFor } from '@tandem/testing/wait';
import { proxyUid } from './shipped-privileges.ts';
import type { ProcessName, TandemNode } from './tandem-node.ts';

/** All that is asked of a node here: where the sockets of its processes are. */
type NodeSockets = Pick<TandemNode, 'runDirectory'>;

/**
 * Degradations of a process: codes with their messages. Without `member-stale`: a
 * heartbeat that is 100 ms old says of a busy machine of tests nothing else; `waitForDegraded` has it.
 */
export async function degradedOf(
  tandem: TandemNode,
  name: ProcessName,
): Promise<ReadonlyMap<string, string>> {
  using client = new GrpcClient({ path: adminPath(tandem, name), serverUids: [proxyUid] });
  const degraded = new Map(await readDegraded(client)); // the client ends with this scope
  degraded.delete('member-stale');
  return degraded;
}

/** The degradations of a process that has just been started, as soon as it answers. */
export async function waitForStatus(
  tandem: TandemNode,
  name: ProcessName,
): Promise<ReadonlyMap<string, string>> {
  const read = async (): Promise<ReadonlyMap<string, string>> => degradedOf(tandem, name);
  return waitFor(read, { what: `${name} to answer Status`, state: () => tandem.logs() });
}

/** The whole answer to `Status`. */
export async function statusOf(tandem: TandemNode, name: ProcessName): Promise<StatusResponse> {
  using client = new GrpcClient({ path: adminPath(tandem, name), serverUids: [proxyUid] });
  return await client.unary(AdminService.status, {}); // the client ends with this scope
}

/** Entries of `ListEndpoints` for one pod, "namespace/pod". */
export async function endpointsOf(
  tandem: NodeSockets,
  name: ProcessName,
  pod: string,
): Promise<readonly EndpointEntry[]> {
  using client = new GrpcClient({ path: adminPath(tandem, name), serverUids: [proxyUid] });
  const entries: EndpointEntry[] = [];
  for await (const page of client.serverStream(AdminService.listEndpoints, { pod })) {
    entries.push(...page.endpoints);
  }
  return entries;
}

/** Waits until a process says that something does not hold; returns how it says it. */
export async function waitForDegraded(
  tandem: TandemNode,
  name: ProcessName,
  code: string,
): Promise<string> {
  const what = `${name} to say ${code}`;
  return pollDegraded(tandem, name, what, (degraded) => degraded.get(code) ?? null);
}

/** Waits until a process no longer says it. */
export async function waitForMended(
  tandem: TandemNode,
  name: ProcessName,
  code: string,
): Promise<void> {
  const what = `${name} not to say ${code} any more`;
  await pollDegraded(tandem, name, what, (degraded) => !degraded.has(code));
}

/** Over one connection: a server takes so many and no more. A wait in vain says what the processes logged. */
async function pollDegraded<T>(
  tandem: TandemNode,
  name: ProcessName,
  what: string,
  read: (degraded: ReadonlyMap<string, string>) => T,
): Promise<Exclude<T, false | null | undefined>> {
  using client = new GrpcClient({ path: adminPath(tandem, name), serverUids: [proxyUid] });
  const poll = async (): Promise<T> => read(await readDegraded(client));
  try {
    return await waitFor(poll, { what, timeoutMs: 20_000 });
  } catch (error) {
    throw new Error(`${(error as Error).message}; ${tandem.logs()}`, { cause: error });
  }
}

async function readDegraded(client: GrpcClient): Promise<ReadonlyMap<string, string>> {
  const { degraded } = await client.unary(AdminService.status, {});
  return new Map(degraded.map(({ code, message }) => [code, message]));
}

function adminPath(tandem: NodeSockets, name: ProcessName): string {
  const { runDirectory } = tandem;
  return name === 'agent' ? agentAdminPath(runDirectory) : proxyAdminPath(runDirectory);
}

/** "name address" of each entry of a process's name cache, sorted. */
export async function listFqdn(tandem: NodeSockets, name: ProcessName): Promise<string[]> {
  const entries = await fqdnEntries(tandem, name);
  return entries.map((entry) => `${entry.name} ${entry.address}`).sort();
}

/** Seconds; `inUseFor` is 0 when no connection uses the address. */
export interface ListedName {
  readonly name: string;
  readonly address: string;
  readonly expiresIn: number;
  readonly inUseFor: number;
}

/** A process's name cache, in no order. */
export async function fqdnEntries(tandem: NodeSockets, name: ProcessName): Promise<ListedName[]> {
  using client = new GrpcClient({ path: adminPath(tandem, name), serverUids: [proxyUid] });
  const entries: ListedName[] = [];
  for await (const page of client.serverStream(AdminService.listFqdn, {})) {
    for (const { mapping, expiresInS, inUseForS } of page.entries) {
      if (mapping === null || mapping === undefined) continue;
      entries.push({
        name: nameToText(mapping.name),
        address: formatAddress(mapping.address),
        expiresIn: expiresInS,
        inUseFor: inUseForS,
      });
    }
  }
  return entries;
}

/** A counter of the process's metrics, summed over its labels. */
export async function counterOf(
  tandem: TandemNode,
  name: ProcessName,
  counter: string,
): Promise<number> {
  const text = await metricsOf(tandem, name);
  const lines = text.split('\n').filter((line) => /^[^ {]*/.exec(line)?.[0] === counter);
  if (lines.length === 0) throw new Error(`${name} has no counter ${counter}`);
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}

/** The process's metrics, in Prometheus' text format. */
export async function metricsOf(tandem: TandemNode, name: ProcessName): Promise<string> {
  using client = new GrpcClient({ path: adminPath(tandem, name), serverUids: [proxyUid] });
  const { text } = await client.unary(AdminService.getMetrics, {});
  return text;
}

/** Waits until both processes know the same names; returns how many. */
export async function waitForEqualCaches(tandem: NodeSockets, timeoutMs: number): Promise<number> {
  return waitFor(
    async () => {
      const [agent, proxy] = await Promise.all([
        listFqdn(tandem, 'agent'),
        listFqdn(tandem, 'proxy'),
      ]);
      return agent.length > 0 && agent.join('\n') === proxy.join('\n') ? agent.length : null;
    },
    { what: 'equal name caches', timeoutMs },
  );
}
