// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The socket on which the proxy follows policy and exchanges names and events. Where it cannot be made (a
 * full or read-only run directory) the agent enforces and answers all the same, says so, and tries again.
 */

import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import { syncSocketPath } from '@tandem/dns-proxy/config';
import type { MemberServices } from '@tandem/dns-proxy/services/member-services';
import { exchangeHandler } from '@tandem/dns-proxy/sync/exchange-stream';
import { SyncService } from '@tandem/proto/gen/services';
import { GrpcServer } from '@tandem/runtime/grpc-server';
import type { Logger } from '@tandem/runtime/log';
import { TandemError } from '@tandem/runtime/tandem-error';
import type { AgentConfig } from '../config.ts';
import type { PolicyServer } from './policy-server.ts';

export interface SyncSocketOptions {
  readonly config: AgentConfig;
  readonly policyServer: PolicyServer;
  readonly services: MemberServices;
  readonly log: Logger;
}

export class SyncSocket {
  readonly #server: GrpcServer;
  readonly #policyServer: PolicyServer;
  readonly #services: MemberServices;
  readonly #log: Logger;
  /** Reason for which no process can connect; null: the socket listens. */
  #failure: TandemError | null = null;

  constructor({ config, policyServer, services, log }: SyncSocketOptions) {
    this.#policyServer = policyServer;
    this.#services = services;
    this.#log = log;
    this.#server = new GrpcServer({
      path: syncSocketPath(config),
      allowedUids: [0, config.proxyUid],
      groupId: config.proxyUid,
      log,
    });
    this.#server.addService(SyncService, {
      policy: policyServer.handle,
      exchange: exchangeHandler(services.exchange),
    });
    services.countServer('sync', this.#server);
  }

  get degradations(): readonly Degradation[] {
    if (this.#failure === null) return [];
    return [
      degradation('sync-unavailable', {
        message: `the agent cannot open its sync socket, so the DNS proxy gets no new policy: ${this.#failure.message}`,
      }),
    ];
  }

  /** Makes the socket, or remembers why not. Never rejects. */
  async start(): Promise<void> {
    try {
      await this.#server.start();
      this.#failure = null;
    } catch (error) {
      const failure = TandemError.from(error);
      if (this.#failure?.message !== failure.message) {
        this.#log.error('the sync socket cannot be opened and will be tried again', {
          error: failure,
        });
      }
      this.#failure = failure;
    }
  }

  /** Once more, if it failed or the socket was removed. */
  async retry(): Promise<void> {
    if (this.#failure !== null || !this.#server.isReachable) await this.start();
  }

  /** Streams are ended here: they have no end of their own, and the server would wait for it. */
  async stop(): Promise<void> {
    this.#policyServer.close();
    await this.#services.endExchange();
    await this.#server.stop();
  }
}
