// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Parts of the standalone proxy beside its DNS member: the link to the agent, admin, metrics. Loaded when the member serves:
 * it is most of the program, and no query waits for it.
 */

import { Datapath } from '@tandem/datapath/datapath';
import { isReplaced } from '@tandem/datapath/group-settings';
import { proxyMember } from '@tandem/datapath/member';
import type { Logger } from '@tandem/runtime/log';
import { TandemError } from '@tandem/runtime/tandem-error';
import { type MemberConfig, proxyAdminPath, syncSocketPath } from './config.ts';
import type { DnsMember } from './dns-member.ts';
import { pinCheckMs } from './limits.ts';
import { pinsReplacedCode } from './member-process.ts';
import { MemberServices } from './services/member-services.ts';
import type { SnapshotStart } from './snapshot-start.ts';
import { createExchangeClient } from './sync/exchange-stream.ts';
import { createPolicyClient } from './sync/policy-client.ts';

export interface ProxyServicesOptions {
  readonly config: MemberConfig;
  readonly member: DnsMember;
  readonly log: Logger;
  /** Snapshot that the member serves already. */
  readonly served: SnapshotStart;
  /** This process cannot go on. */
  readonly onFailure: (error: TandemError) => void;
}

export class ProxyServices {
  readonly #o: ProxyServicesOptions;
  readonly #services: MemberServices;
  readonly #exchange: ReturnType<typeof createExchangeClient>;
  readonly #policy: ReturnType<typeof createPolicyClient>;
  #datapath: Datapath | null = null;
  #timer: NodeJS.Timeout | null = null;

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
    this.#timer = setInterval(() => this.#checkPins(), pinCheckMs);
  }

  /** Sockets of a group that is no more would take queries from those of the one in its place. */
  #checkPins(): void {
    const group = this.#datapath?.map('group');
    if (group === undefined || !isReplaced(this.#o.config.bpffsDir, group)) return;
    const message =
      'the pins were removed, and an agent has made new ones: this process has those from before, and must be started again';
    this.#o.onFailure(new TandemError(pinsReplacedCode, message));
  }

  /** Why this process is not ready. */
  get blockers(): readonly string[] {
    return this.#services.blockers;
  }

  /** No policy comes any more; the member may stop. */
  stopPolicy(): void {
    this.#policy.stop();
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#services.endExchange();
    this.#exchange.stop();
    await this.#services.stop();
    this.#datapath?.[Symbol.dispose]();
  }
}
