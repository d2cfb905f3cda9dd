// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The agent's policy path with kernel maps of its own: source state, controller, compilation, the thread that
 * completes snapshots, the files on disk. What needs a node's network and the DNS workers answers at once.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { type ControllerOptions, PolicyController } from '@tandem/agent/policy/controller';
import { StateKeeper } from '@tandem/agent/policy/state-keeper';
import { BpfMap, mapFlag, mapType } from '@tandem/bpf-loader-node/map';
import type { NodeContext } from '@tandem/core/policy/model/cluster-state';
import type { EndpointDesired } from '@tandem/core/policy/model/desired';
import {
  TD_CLASSES_MAX,
  TD_DNS_SERVERS_MAX,
  TD_ENDPOINTS_MAX,
  TD_POLICY_MAX,
  tdClass,
  tdClassKey,
  tdDnsServer,
  tdDnsServerKey,
  tdEndpoint,
  tdGroup,
  tdPolicy,
  tdPolicyKey,
} from '@tandem/datapath/abi.gen';
import { AgentTable } from '@tandem/datapath/agent-table';
import { encodeEndpoint } from '@tandem/datapath/encode';
import type { CompletedPatterns } from '@tandem/dns-proxy/policy/build-image';
import type { CompileAnswer } from '@tandem/dns-proxy/policy/compile-worker';
import type { PolicySnapshot } from '@tandem/proto/gen/messages';
import { Changes, loopTimers, wait } from '@tandem/runtime/task';
import { ownPrefix } from '@tandem/testing/namespace';

type MapName = 'endpoints' | 'classes' | 'policy' | 'dns_servers';

/** Type, sizes of key and value, entries, flags. */
const shapes: Readonly<Record<MapName, readonly [number, number, number, number, number]>> = {
  endpoints: [mapType.hash, 16, tdEndpoint.size, TD_ENDPOINTS_MAX, 0],
  classes: [mapType.lpmTrie, tdClassKey.size, tdClass.size, TD_CLASSES_MAX, mapFlag.noPrealloc],
  policy: [mapType.lpmTrie, tdPolicyKey.size, tdPolicy.size, TD_POLICY_MAX, mapFlag.noPrealloc],
  dns_servers: [
    mapType.hash,
    tdDnsServerKey.size,
    tdDnsServer.size,
    TD_DNS_SERVERS_MAX,
    mapFlag.noPrealloc,
  ],
};

const known = {
  vethIfindex: 1,
  l3Ifindex: 1,
  bridgeMac: new Uint8Array(6),
  mac: new Uint8Array(6),
};

export class ControllerBed implements Disposable {
  readonly controller: PolicyController;
  readonly #maps = new Map<MapName, BpfMap>();
  readonly #directory = mkdtempSync(join(tmpdir(), `${ownPrefix}policy-bench-`));
  readonly #compiler = new SnapshotCompiler();

  constructor(node: NodeContext) {
    const tables = new Map<MapName, AgentTable>();
    for (const [name, [type, keySize, valueSize, maxEntries, flags]] of Object.entries(shapes)) {
      const made = BpfMap.create({ name, type, keySize, valueSize, maxEntries, flags });
      this.#maps.set(name as MapName, made);
      tables.set(name as MapName, new AgentTable(made, null));
    }
    const group = new ArrayBuffer(tdGroup.size);
    const nothing = (): void => undefined;
    const log = { debug: nothing, info: nothing, warn: nothing, error: nothing };
    this.controller = new PolicyController({
      datapath: {
        map: (name: MapName | 'group' | 'learned_order') => {
          if (name === 'group') return { mmap: () => group };
          return name === 'learned_order' ? { lookup: () => null } : this.map(name);
        },
        program: () => ({ runSyscall: () => 0 }),
        table: (name: MapName) => tables.get(name),
        ensureJudging: nothing,
      },
      attacher: {
        plan: (endpoints: readonly EndpointDesired[]) =>
          Promise.resolve({
            endpoints,
            entries: endpoints.map((each) => encodeEndpoint(each.address, { ...known, ...each })),
            diagnostics: [],
          }),
        attach: () => Promise.resolve([]),
      },
      server: { publish: nothing, isAcknowledged: () => true, changes: new Changes() },
      completePatterns: (patterns: PolicySnapshot['patterns']) => this.#compiler.complete(patterns),
      install: () => wait(undefined),
      backfill: () => wait(undefined),
      timers: loopTimers,
      randomBelow: () => 0,
      redirects: { apply: () => Promise.resolve() },
      keeper: new StateKeeper({
        stateDir: this.#directory,
        paths: {
          run: join(this.#directory, 'copy'),
          disk: join(this.#directory, 'policy.snapshot'),
        },
        proxyGid: process.getgid?.() ?? 0,
        log,
      } as unknown as ConstructorParameters<typeof StateKeeper>[0]),
      log,
      quotaNamespace: 1000,
      nodeContext: () => node,
      served: null,
    } as unknown as ControllerOptions);
  }

  map(name: MapName): BpfMap {
    return this.#maps.get(name) as BpfMap;
  }

  /** As after a while without changes. */
  async rest(): Promise<void> {
    await this.#compiler.stop();
  }

  [Symbol.dispose](): void {
    void this.#compiler.stop();
    for (const made of this.#maps.values()) made[Symbol.dispose]();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** The product's thread that compiles patterns. */
class SnapshotCompiler {
  #worker: Worker | null = null;
  readonly #waiting = new Map<number, (answer: CompileAnswer) => void>();
  #next = 1;

  #thread(): Worker {
    if (this.#worker !== null) return this.#worker;
    const file = import.meta.resolve('@tandem/dns-proxy/policy/compile-worker');
    this.#worker = new Worker(fileURLToPath(file));
    this.#worker.on('message', (answer: CompileAnswer) => this.#waiting.get(answer.id)?.(answer));
    return this.#worker;
  }

  async complete(patterns: PolicySnapshot['patterns']): Promise<CompletedPatterns> {
    const id = this.#next++;
    const answer = await new Promise<CompileAnswer>((resolve) => {
      this.#waiting.set(id, resolve);
      this.#thread().postMessage({ id, wants: 'matcher', patterns });
    });
    this.#waiting.delete(id);
    if ('compiledMatcher' in answer) return answer;
    throw new Error('error' in answer ? answer.error : 'no matcher');
  }

  async stop(): Promise<void> {
    await this.#worker?.terminate();
    this.#worker = null;
  }
}
