// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * What the standalone proxy runs beside its DNS member: the link to the agent, admin, metrics. Loaded
 * when the member serves: it is most of the program, and no query waits for it.
 */

import { Datapath } from '@tandem/datapath/datapath';
import { proxyMember } from '@tandem/datapath/member';
import type { Logger } from '@tandem/runtime/log';
import { type MemberConfig, proxyAdminPath, syncSocketPath } from './config.ts';
import type { DnsMember } from './dns-member.ts';
import { MemberServices } from './member-services.ts';
import type { SnapshotStart } from './snapshot-start.ts';
import { createExchangeClient } from './sync/exchange-stream.ts';
import { createPolicyClient } from './sync/policy-client.ts';

export interface ProxyServicesOptions {
  readonly config: MemberConfig;
  readonly member: DnsMember;
  readonly log: Logger;
  /** What the member serves already. */
  readonly served: SnapshotStart;
}

export class ProxyServices {
  readonly #o: ProxyServicesOptions;
  readonly #services: MemberServices;
  readonly #exchange: ReturnType<typeof createExchangeClient>;
  readonly #policy: ReturnType<typeof createPolicyClient>;
  #datapath: Datapath | null = null;

  constructor(options: ProxyServicesOptions) {
    this.#o = options;
    const { config, member, log, served } = options;
    this.#services = new MemberServices({
      config,
      index: proxyMember,
      member,
      adminPath: proxyAdminPath(config.runDir),
      log,
      // Once the agent has sent a policy the file of the start is history.
      degradations: () => (member.revision === served.revision ? served.degradations : []),
      exchangeError: () => this.#exchange.lastError?.message ?? '',
    });
    this.#exchange = createExchangeClient(this.#services.exchange, syncSocketPath(config), log);
    this.#policy = createPolicyClient({
      path: syncSocketPath(config),
      member: proxyMember,
      log,
      revision: () => member.revision,
      install: (snapshot) => this.#services.install(snapshot, 'agent'),
    });
  }

  /** `DnsMember.onEvent` */
  onDnsEvent(bytes: Uint8Array, at: number, length: number): void {
    this.#services.onDnsEvent(bytes, at, length);
  }

  async start(): Promise<void> {
    const { config, served } = this.#o;
    this.#datapath = Datapath.open(config.bpffsDir, { isMember: true });
    if (served.snapshot !== null) this.#services.installed(served.snapshot, 'snapshot');
    await this.#services.start(this.#datapath);
    this.#policy.start();
    this.#exchange.start();
  }

  /** No policy comes any more; the member may stop. */
  stopPolicy(): void {
    this.#policy.stop();
  }

  async stop(): Promise<void> {
    this.#exchange.stop();
    await this.#services.stop();
    this.#datapath?.[Symbol.dispose]();
  }
}
