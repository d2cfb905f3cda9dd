// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The admin socket and the metrics port of a process. None of them that fails to start keeps DNS from being served. */

import { AdminService } from '@tandem/proto/gen/services';
import { GrpcServer } from '@tandem/runtime/grpc-server';
import type { Logger } from '@tandem/runtime/log';
import type { Metrics } from '@tandem/runtime/metrics';
import { MetricsServer } from '@tandem/runtime/metrics-server';
import type { Degradation } from '../admin/degradation.ts';
import type { Admin } from '../admin/service.ts';
import type { MemberConfig } from '../config.ts';
import { optionalCheckMs } from '../limits.ts';
import { parseMetricsAddress } from '../metrics/address.ts';
import { OptionalServers } from './optional-servers.ts';

export interface ProcessServersOptions {
  readonly config: MemberConfig;
  /** The admin socket. */
  readonly adminPath: string;
  readonly metrics: Metrics;
  /** Why this process is not ready. */
  readonly blockers: () => readonly string[];
  readonly log: Logger;
}

export class ProcessServers {
  /** The gRPC servers of this process, by a name for its socket. */
  readonly byName: Map<string, GrpcServer> = new Map();
  readonly #o: ProcessServersOptions;
  readonly #optional: OptionalServers;

  constructor(options: ProcessServersOptions) {
    this.#o = options;
    this.#optional = new OptionalServers(options.log);
  }

  async start(admin: Admin): Promise<void> {
    await this.#startAdmin(admin);
    await this.#startMetrics();
  }

  async stop(): Promise<void> {
    await this.#optional.stop();
  }

  /** Once in `optionalCheckMs`. */
  check(): void {
    this.#optional.check(optionalCheckMs);
  }

  get degradations(): readonly Degradation[] {
    return this.#optional.degradations;
  }

  async #startAdmin(admin: Admin): Promise<void> {
    const { adminPath, config, log } = this.#o;
    const server = new GrpcServer({
      path: adminPath,
      allowedUids: [0, config.proxyUid],
      groupId: config.proxyUid,
      log,
    });
    server.addService(AdminService, admin.handlers);
    this.byName.set('admin', server);
    await this.#optional.start('admin-unavailable', server);
  }

  async #startMetrics(): Promise<void> {
    const { config, metrics, blockers, log } = this.#o;
    if (config.metricsAddress === '') return;
    const address = parseMetricsAddress(config.metricsAddress, config.proxyUid);
    if (address === null) throw new TypeError('metricsAddress was not checked');
    const server = new MetricsServer({
      address,
      metrics,
      // A worker that died ends the process, so a process that answers is healthy.
      health: () => [],
      readiness: blockers,
      log,
    });
    await this.#optional.start('metrics-unavailable', server);
  }
}
