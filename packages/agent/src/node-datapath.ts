// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The datapath of the node, with the view of the network and the mark that it is loaded by. */

import { fileURLToPath } from 'node:url';
import { netnsCookie } from '@tandem/bpf-loader-node/netns';
import { TD_HEARTBEAT_STALE_NS } from '@tandem/datapath/abi.gen';
import { markCandidates } from '@tandem/datapath/config';
import { readPinnedSettings } from '@tandem/datapath/group-settings';
import { LoadedDatapath } from '@tandem/datapath/load';
import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import { NetworkView } from '@tandem/netlink/network-view';
import type { Logger } from '@tandem/runtime/log';
import { TandemError } from '@tandem/runtime/tandem-error';
import type { AgentConfig } from './config.ts';
import { classifyDevices } from './endpoint/node-devices.ts';
import { MarkWatch } from './firewall/mark-watch.ts';
import { datagramsPerQueryRate } from './limits.ts';
import { acceptFormerMark, removeArpTables, retryArp } from './node/arp-guard.ts';
import type { NetworkRulesOptions } from './node/network-rules.ts';
import { awaitNetwork } from './node/node-network.ts';
import { removeDatapath } from './node/node-removal.ts';
import { sideDegradations } from './node/side-parts.ts';

export class NodeDatapath {
  readonly #config: AgentConfig;
  readonly #log: Logger;
  #rules: NetworkRulesOptions;
  #view: NetworkView | null = null;
  #mark: MarkWatch | null = null;
  #datapath: LoadedDatapath | null = null;
  #isStopped = false;

  constructor(config: AgentConfig, log: Logger) {
    this.#config = config;
    this.#log = log;
    this.#rules = {
      // Chosen by `load`, before anything is made by it.
      mark: markCandidates[0],
      port: config.port,
      routingTable: config.routingTable,
      rulePriority: config.rulePriority,
    };
  }

  /** Puts this version's programs in force. @throws BpfError, SchemaError, TandemError: those before stay */
  async load(): Promise<void> {
    const view = await NetworkView.open({ tables: [this.#rules.routingTable] });
    this.#view = view;
    await awaitNetwork(view);
    this.#requireRunning();
    this.#mark = new MarkWatch({
      view,
      wanted: this.#config.mark,
      pinRoot: this.#config.bpffsDir,
      routingTable: this.#rules.routingTable,
      log: this.#log,
    });
    const mark = await this.#leaveFormerMark(await this.#mark.choose());
    this.#mark.keep(mark);
    this.#rules = { ...this.#rules, mark };
    this.#requireRunning();
    this.#datapath = this.#load(view);
    const { abi, keptAbi } = this.#datapath;
    this.#log.info('programs are in force', { abi, keptAbi });
  }

  /** With the mark that `load` chose. */
  get rules(): NetworkRulesOptions {
    return this.#rules;
  }

  /** After `load`. */
  get view(): NetworkView {
    return loaded(this.#view);
  }

  /** After `load`. */
  get datapath(): LoadedDatapath {
    return loaded(this.#datapath);
  }

  get degradations(): readonly Degradation[] {
    return [...this.#pinProblems(), ...this.#viewProblems(), ...(this.#mark?.degradations ?? [])];
  }

  /** The programs stay in force. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#datapath?.[Symbol.dispose]();
    await this.#mark?.stop();
  }

  /** Takes the datapath off the node. */
  async remove(): Promise<void> {
    const { bpffsDir, proxyUid } = this.#config;
    const where = { view: this.#view, rules: this.#rules, pinRoot: bpffsDir, proxyGid: proxyUid };
    for (const { part, message } of await removeDatapath(where)) {
      this.#log.error('a part of the datapath could not be removed from the node', {
        part,
        reason: message,
      });
    }
  }

  close(): void {
    this.#view?.close();
  }

  /** A start that waits goes on beside the stop: what it loads after a removal would stay. */
  #requireRunning(): void {
    if (!this.#isStopped) return;
    throw new TandemError('TANDEM_STOPPING', 'the agent stops before its programs are loaded');
  }

  /**
   * The tables of ARP test the bit that `from_pod` sets: with another bit they would drop all ARP of bridged pods until they are written
   * again, after pods' programs are attached, and for good if this start fails before. Without pins there is no `from_pod`.
   * Gives the bit to go on with: the former one where nft fails and no option names another, for `mark-taken` cuts off less.
   */
  async #leaveFormerMark(chosen: number): Promise<number> {
    const former = readPinnedSettings(this.#config.bpffsDir)?.mark ?? null;
    if (former === chosen) return chosen;
    try {
      await retryArp(() =>
        former === null ? removeArpTables() : acceptFormerMark(former, chosen),
      );
      return chosen;
    } catch (error) {
      const mark = this.#config.mark === 'auto' ? (former ?? chosen) : chosen;
      const what =
        mark === chosen ? 'they may drop ARP of pods' : 'the mark of that start stays in force';
      this.#log.error(`nft tables of a former start cannot be changed: ${what}`, {
        error: TandemError.from(error),
      });
      return mark;
    }
  }

  #load(view: NetworkView): LoadedDatapath {
    const config = this.#config;
    return LoadedDatapath.load({
      objectPath: config.bpfObject === '' ? defaultObjectPath() : config.bpfObject,
      pinRoot: config.bpffsDir,
      sharedGid: config.proxyUid,
      cgroupPath: config.cgroupPath === '' ? null : config.cgroupPath,
      devices: classifyDevices(view.state, config, () => false),
      config: {
        mark: this.#rules.mark,
        port: config.port,
        ownerUid: config.proxyUid,
        netnsCookie: netnsCookie(),
        staleNs: TD_HEARTBEAT_STALE_NS,
        fqdnIdleSeconds: config.fqdnIdleSeconds,
        fqdnLiveSeconds: config.fqdnLiveSeconds,
        fqdnLiveIdleSeconds: config.fqdnLiveIdleSeconds,
        connectsPerSecond: config.tcpConnectsPerSecond,
        datagramsPerSecond: config.queriesPerSecond * datagramsPerQueryRate,
        nat64Prefixes: config.nat64Prefixes,
        quotaNamespace: config.quotaNamespace,
        quotaSelector: config.quotaSelector,
      },
    });
  }

  #pinProblems(): readonly Degradation[] {
    const datapath = this.#datapath;
    if (datapath === null) return [];
    // Without pins at all, what cannot be pinned is no problem of its own.
    return datapath.isUnpinned()
      ? [degradation('pins-removed')]
      : sideDegradations(datapath.problems);
  }

  #viewProblems(): readonly Degradation[] {
    return [...(this.#view?.problems ?? [])].map(([kind, reason]) =>
      degradation('network-unreadable', {
        message: `${kind} of the node cannot be read: ${reason}; the agent goes on with the last reading`,
      }),
    );
  }
}

function loaded<T>(part: T | null): T {
  if (part === null) throw new TypeError('start before load');
  return part;
}

function defaultObjectPath(): string {
  return fileURLToPath(new URL('../../../bpf/build/tandem.bpf.o', import.meta.url));
}
