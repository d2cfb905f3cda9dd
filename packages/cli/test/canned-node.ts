// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Admin sockets of a node that answer what a test says: real gRPC on real sockets. */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { agentAdminPath, proxyAdminPath } from '@tandem/dns-proxy/config';
import {
  type EndpointEntryInit,
  type FqdnEntryInit,
  MemberRole,
  MemberState,
  type ObserveRequest,
  type ObserveResponseInit,
  type StatusResponseInit,
} from '@tandem/proto/gen/messages';
import { AdminService } from '@tandem/proto/gen/services';
import { GrpcServer } from '@tandem/runtime/grpc-server';
import { silentLogger } from '@tandem/runtime/log';
import { ownPrefix } from '@tandem/testing/namespace';
import type { ProcessName } from '../src/admin/connection.ts';

export interface CannedAnswers {
  readonly status?: StatusResponseInit;
  /** Never answers, as a process that hangs. */
  readonly isHung?: boolean;
  /** Pages. */
  readonly endpoints?: readonly EndpointEntryInit[][];
  readonly names?: readonly FqdnEntryInit[][];
  readonly events?: readonly ObserveResponseInit[];
  /** Observe is refused: gRPC status and text. */
  readonly refusal?: { readonly code: number; readonly details: string };
}

export class CannedNode implements AsyncDisposable {
  readonly directory: string = mkdtempSync(join(tmpdir(), `${ownPrefix}0-cli-`));
  readonly requests: ObserveRequest[] = [];
  /** Pods and patterns that lists were asked for. */
  readonly filters: string[] = [];
  readonly #servers = new Map<ProcessName, GrpcServer>();

  /** Flags that lead a command here, and to no pins. */
  get flags(): string[] {
    const { directory } = this;
    return [
      `--run-dir=${directory}/run`,
      `--bpffs-dir=${directory}/bpf`,
      `--state-dir=${directory}`,
    ];
  }

  async serve(process: ProcessName, answers: CannedAnswers): Promise<void> {
    const runDir = join(this.directory, 'run');
    const path = process === 'agent' ? agentAdminPath(runDir) : proxyAdminPath(runDir);
    mkdirSync(dirname(path), { recursive: true, mode: 0o750 });
    const server = new GrpcServer({
      path,
      allowedUids: [0],
      log: silentLogger(),
      stopGraceMs: 1,
    });
    server.addService(AdminService, {
      status: (_call, callback) => {
        if (answers.isHung !== true) callback(null, answers.status ?? {});
      },
      listEndpoints: (call) => {
        this.filters.push(call.request.pod);
        for (const endpoints of answers.endpoints ?? []) call.write({ endpoints });
        call.end();
      },
      listFqdn: (call) => {
        this.filters.push(call.request.namePattern);
        for (const entries of answers.names ?? []) call.write({ entries });
        call.end();
      },
      observe: (call) => {
        this.requests.push(call.request);
        if (answers.refusal !== undefined) {
          call.emit('error', answers.refusal);
          return;
        }
        for (const event of answers.events ?? []) call.write(event);
        if (!call.request.follow) call.end();
      },
      getMetrics: (_call, callback) => callback(null, { text: '' }),
    });
    await server.start();
    this.#servers.set(process, server);
  }

  async stop(process: ProcessName): Promise<void> {
    await this.#servers.get(process)?.stop();
    this.#servers.delete(process);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers.values()) await server.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A status without anything to complain about. */
export function healthyStatus(role: ProcessName = 'agent'): StatusResponseInit {
  const member = (index: number): NonNullable<StatusResponseInit['members']>[number] => ({
    index,
    role: index === 0 ? MemberRole.MEMBER_ROLE_AGENT : MemberRole.MEMBER_ROLE_DNS_PROXY,
    state: MemberState.MEMBER_STATE_LIVE,
    pid: 100 + index,
    beatAgeUs: 1500,
    revision: 7,
    isFresh: true,
  });
  return {
    version: {
      version: '0.1.0',
      commit: 'abc1234',
      abiVersion: 1,
      nodeVersion: 'v24.0.0',
      kernelRelease: '6.12',
    },
    nodeName: 'node-1',
    role: role === 'agent' ? MemberRole.MEMBER_ROLE_AGENT : MemberRole.MEMBER_ROLE_DNS_PROXY,
    uptimeS: 4000,
    members: [member(0), member(1)],
    policy: {
      revision: 7,
      requiredRevision: 7,
      origin: 'agent',
      createdUnixMs: 1_700_000_000_000,
      endpoints: 3,
      patterns: 5,
      policies: 2,
    },
    sync: { isConnected: true, backlogBytes: 0, backlogBytesMax: 4 << 20 },
    dropReader: { isHeld: true, member: 0, ageMs: 20, seen: 40, missing: 2, kernelLost: 3 },
    maps: [{ name: 'fqdn', entries: 10, capacity: 1000 }],
    lanes: { selected: 900, selectedHeavy: 30, knowsPods: role === 'agent' },
  };
}
