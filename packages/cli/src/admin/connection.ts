// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The admin sockets of the node's two processes. The agent is asked first; when it does not answer in
 * time, gone or hung, the DNS proxy is, which knows the same node.
 */

import { type MemberName, memberNames } from '@tandem/datapath/member';
import { agentAdminPath, proxyAdminPath } from '@tandem/dns-proxy/config';
import type { StatusResponse } from '@tandem/proto/gen/messages';
import { AdminService } from '@tandem/proto/gen/services';
import { GrpcClient } from '@tandem/runtime/grpc-client';
import { TandemError } from '@tandem/runtime/tandem-error';
import { unreachableError } from '../errors.ts';
import { adminDeadlineMs } from '../limits.ts';
import type { Printer } from '../output/printer.ts';
import type { Settings } from '../settings.ts';

export const processNames: typeof memberNames = memberNames;
export type ProcessName = MemberName;

/** Result of asking one process for its status. */
export type AdminAnswer = {
  readonly process: ProcessName;
  readonly path: string;
} & (
  | { readonly ok: true; readonly status: StatusResponse }
  | { readonly ok: false; readonly reason: string }
);

/** A process that answers. */
export interface AdminConnection extends Disposable {
  readonly answeredBy: ProcessName;
  readonly path: string;
  readonly client: GrpcClient;
  readonly status: StatusResponse;
}

export function adminPath(process: ProcessName, settings: Settings): string {
  return process === 'agent' ? agentAdminPath(settings.runDir) : proxyAdminPath(settings.runDir);
}

/** Asks one process; never throws. */
export async function askStatus(
  process: ProcessName,
  settings: Settings,
  signal: AbortSignal,
): Promise<AdminAnswer> {
  const path = adminPath(process, settings);
  try {
    using client = openClient(path, settings);
    const status = await client.unary(
      AdminService.status,
      {},
      { deadlineMs: adminDeadlineMs, signal },
    );
    return { process, path, ok: true, status };
  } catch (error) {
    return { process, path, ok: false, reason: reasonOf(error) };
  }
}

/**
 * A connection to the first process that answers. `notes` gets its name, and the reason if it is not the agent.
 * @throws TandemError TANDEM_CLI_UNREACHABLE with the reason of each
 */
export async function connectAdmin(
  settings: Settings,
  signal: AbortSignal,
  notes: Printer | null,
): Promise<AdminConnection> {
  const failures: string[] = [];
  for (const process of processNames) {
    const path = adminPath(process, settings);
    let client: GrpcClient | null = null;
    try {
      client = openClient(path, settings);
      const status = await client.unary(
        AdminService.status,
        {},
        { deadlineMs: adminDeadlineMs, signal },
      );
      for (const failure of failures) notes?.line({ text: failure, style: 'warning' });
      notes?.line({ text: `answered by the ${process} (${path})`, style: 'dim' });
      return connectionOf(process, path, client, status);
    } catch (error) {
      client?.close();
      failures.push(`the ${process} does not answer: ${reasonOf(error)}`);
    }
  }
  throw unreachableError(
    `${failures.join('; ')}. Run it as root on the node, with --run-dir of its processes; \`tandem status\` reads from the pinned maps which process is alive`,
  );
}

function connectionOf(
  answeredBy: ProcessName,
  path: string,
  client: GrpcClient,
  status: StatusResponse,
): AdminConnection {
  return { answeredBy, path, client, status, [Symbol.dispose]: () => client.close() };
}

/** The proxy owns the directory of its socket. */
function openClient(path: string, settings: Settings): GrpcClient {
  return new GrpcClient({ path, serverUids: [settings.proxyUid] });
}

function reasonOf(error: unknown): string {
  const { message, facts } = TandemError.from(error);
  if (facts['status'] === 'DEADLINE_EXCEEDED') return `no answer within ${adminDeadlineMs} ms`;
  return message;
}
