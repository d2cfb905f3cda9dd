// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A node without a kernel: objects go the product's way into maps in memory, which can be asked what a pod
 * may do. Used by tests that one faulty object, or one full map, leaves the other objects enforced.
 */

import assert from 'node:assert/strict';
import { BpfError } from '@tandem/bpf-loader-node/errors';
import type { BpfMap } from '@tandem/bpf-loader-node/map';
import { nameFromText } from '@tandem/core/dns/name';
import { loadName, QueryView } from '@tandem/core/dns/query';
import type { PolicyId } from '@tandem/core/ids';
import { hostPrefix, parseAddress, trieCovers } from '@tandem/core/net/ip';
import { type Budgets, nodeBudgets } from '@tandem/core/policy/compile/fit-costs';
import type { ClusterState, NodeContext } from '@tandem/core/policy/model/cluster-state';
import type { Compiled } from '@tandem/core/policy/model/desired';
import { EndpointFlag, peerAny, Verdict } from '@tandem/core/policy/model/kernel-numbers';
import type { Policy } from '@tandem/core/policy/model/rule';
import { StableIds } from '@tandem/core/policy/model/stable-ids';
import {
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
import { decodeEndpoint, encodeEndpoint } from '@tandem/datapath/encode';
import { NodeGroup } from '@tandem/datapath/group';
import { buildImage } from '@tandem/dns-proxy/policy/build-image';
import { PolicyTables } from '@tandem/dns-proxy/policy/tables';
import { decodePolicySnapshot, encodePolicySnapshot } from '@tandem/proto/snapshot';
import * as fc from 'fast-check';
import {
  type AppliedMaps,
  applyToDatapath,
  type Capacities,
  policiesInUse,
  type Refused,
} from '../src/policy/apply.ts';
import { ClusterBuilder } from '../src/policy/cluster-builder.ts';
import { Compilations } from '../src/policy/compilations.ts';
import { entryOf, policyEntries } from '../src/policy/map-change.ts';
import { refusedDiagnostics } from '../src/policy/refused-diagnostics.ts';
import { snapshotOf } from '../src/policy/snapshot.ts';
import type { SourceState } from '../src/source/directory.ts';
import type { SourceObject } from '../src/source/read-documents.ts';

export type Raw = Readonly<Record<string, unknown>>;

/** A node without addresses. */
export const bareNode: NodeContext = {
  nodeName: 'one',
  localAddresses: [],
  clusterCidrs: [],
  serviceCidrs: [],
  nodeLocalDns: [],
  clusterName: 'default',
};
export const budgets: Budgets = {
  ...nodeBudgets,
  classes: 300,
  policy: 600,
  dns_servers: 60,
  snapshot: 40_000,
};
const resolver = '192.0.2.53';
const peers = ['203.0.113.1', '203.0.113.129', '198.51.100.7', resolver];
const ports = [53, 80, 443];
const names = ['a.test', 'b.a.test', 'c.test', 'x.org'];
const patterns = ['a.test', '*.a.test', '**.test', '*'];

/* ---- objects ---- */

export interface ObjectFixture {
  readonly cidrs: readonly string[];
  readonly port: number | null;
  readonly dns: readonly string[];
  readonly denies: boolean;
  /** A rule for every peer. */
  readonly opens: boolean;
}

export const fixtures: fc.Arbitrary<ObjectFixture> = fc.record({
  cidrs: fc.uniqueArray(fc.constantFrom('203.0.113.0/24', '203.0.113.128/25', '198.51.100.7/32'), {
    minLength: 1,
  }),
  port: fc.constantFrom(null, 80, 443),
  dns: fc.uniqueArray(fc.constantFrom(...patterns), { minLength: 1 }),
  denies: fc.boolean(),
  opens: fc.boolean(),
});

export const podOf = (i: number): Raw => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { namespace: 'shop', name: `p${i}`, uid: `u${i}`, labels: { app: `a${i}`, v: '1' } },
  spec: { nodeName: 'one' },
  status: { podIPs: [{ ip: podAddress(i) }] },
});
const podAddress = (i: number): string => `10.1.0.${i + 2}`;

export const tcp = (port: number): Raw => ({ ports: [{ port: String(port), protocol: 'TCP' }] });

export function specOf(i: number, { cidrs, port, dns, denies, opens }: ObjectFixture): Raw {
  const toPorts = port === null ? {} : { toPorts: [tcp(port)] };
  const dnsPorts = {
    ports: [{ port: '53', protocol: 'UDP' }],
    rules: { dns: dns.map((matchPattern) => ({ matchPattern })) },
  };
  return {
    endpointSelector: { matchLabels: { app: `a${i}` } },
    egress: [
      { toCIDR: cidrs, ...toPorts },
      { toCIDR: [resolver], toPorts: [dnsPorts] },
      { toFQDNs: dns.map((matchPattern) => ({ matchPattern })) },
      ...(opens ? [{ toEntities: ['all'], toPorts: [tcp(443)] }] : []),
    ],
    ...(denies ? { egressDeny: [{ toCIDR: ['203.0.113.1'] }] } : {}),
  };
}

export const policyOf = (i: number, spec: Raw): Raw => ({
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { namespace: 'shop', name: `o${i}` },
  spec,
});

/* ---- a node ---- */

type MapName = 'endpoints' | 'classes' | 'policy' | 'dns_servers';
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

/** Fault behind the parser. */
export interface NodeFault {
  /** Policy that a bug of the parser would let pass. */
  readonly corrupt?: (policy: Policy) => Policy;
  /** The kernel refuses what belongs to its policies. */
  readonly refuses?: 'policy' | 'dns_servers' | 'endpoints';
}

class FakeMap {
  readonly keySize: number;
  readonly valueBytes: number;
  capacity: number = Number.MAX_SAFE_INTEGER;
  onWrite: () => void = () => undefined;
  onUpdate: () => void = () => undefined;
  refuses: (key: Uint8Array, value: Uint8Array) => boolean = () => false;
  readonly #entries = new Map<string, [Uint8Array, Uint8Array]>();

  constructor(keySize: number, valueBytes: number) {
    this.keySize = keySize;
    this.valueBytes = valueBytes;
  }

  entries(): [Uint8Array, Uint8Array][] {
    return [...this.#entries.values()];
  }

  updateBatch(keys: Uint8Array, values: Uint8Array, count: number): void {
    for (let i = 0; i < count; i++) {
      const key = keys.slice(i * this.keySize, (i + 1) * this.keySize);
      const value = values.slice(i * this.valueBytes, (i + 1) * this.valueBytes);
      const isFull = this.#entries.size >= this.capacity && !this.#entries.has(textOf(key));
      if (isFull || this.refuses(key, value)) {
        throw new BpfError({ code: 'FULL', errno: 28, object: 'map', completed: i } as never);
      }
      this.#entries.set(textOf(key), [key, value]);
      this.onUpdate();
      this.onWrite();
    }
  }

  delete(key: Uint8Array): boolean {
    const wasThere = this.#entries.delete(textOf(key));
    this.onWrite();
    return wasThere;
  }
}

export class FakeNode {
  readonly #maps: Readonly<Record<MapName, FakeMap>> = {
    endpoints: new FakeMap(16, tdEndpoint.size),
    classes: new FakeMap(tdClassKey.size, tdClass.size),
    policy: new FakeMap(tdPolicyKey.size, tdPolicy.size),
    dns_servers: new FakeMap(tdDnsServerKey.size, tdDnsServer.size),
  };
  readonly #agentTables = new Map<MapName, AgentTable>();
  readonly #group = new ArrayBuffer(tdGroup.size);
  /** `group.policies` when an entry was last added to `policy`. */
  #policiesAtAdding: number | null = null;
  readonly #builder = new ClusterBuilder();
  readonly #compilations: Compilations;
  #capacities: Capacities = { policy: 1200, dns_servers: 120, classes: 600 };
  #tables: PolicyTables | null = null;
  #revision = 0;
  /** The maps hold what was applied last, and nothing else. */
  #isWhole = false;

  /** Called after each write to a map. */
  set onWrite(watch: () => void) {
    for (const map of Object.values(this.#maps)) map.onWrite = watch;
  }

  /** Entries of the three maps that a transition must share. */
  get sizes(): Capacities {
    const { policy, dns_servers: servers, classes } = this.#maps;
    const count = (map: FakeMap): number => map.entries().length;
    return { policy: count(policy), dns_servers: count(servers), classes: count(classes) };
  }

  /** `capacities`: of the maps, and what compilation may use of them. */
  constructor(capacities: Capacities | null = null) {
    const group = new NodeGroup(this.#group);
    this.#maps.policy.onUpdate = () => (this.#policiesAtAdding = group.policies);
    this.#maps.endpoints.onUpdate = () => this.#assertCounted();
    this.#compilations = new Compilations(StableIds.empty(), null, { ...budgets, ...capacities });
    if (capacities === null) return;
    this.#capacities = capacities;
    for (const [name, capacity] of Object.entries(capacities)) {
      this.#maps[name as keyof Capacities].capacity = capacity;
    }
  }

  /** One revision of objects that a source has read. Returns the objects that are named. */
  apply(raws: readonly Raw[], fault: NodeFault | null = null, faulty = 0): string {
    const objects = raws.map(
      (raw, i): SourceObject => ({ file: 'f', document: i + 1, line: i, raw, damage: null }),
    );
    return this.applySource({ objects, problems: [] }, fault, faulty);
  }

  /** Likewise, with what the source itself could not read. */
  applySource(
    source: Pick<SourceState, 'objects' | 'problems'>,
    fault: NodeFault | null = null,
    faulty = 0,
  ): string {
    const state = corrupted(this.#builder.build(source), fault, faulty);
    const compiled = this.#compilations.compile(state, bareNode, ++this.#revision);
    assert.ok(compiled !== null && compiled.fits);
    if (compiled !== this.#compilations.applied) this.#publish(compiled);
    const refused = this.#write(compiled, fault, faulty);
    return [...compiled.diagnostics, ...refusedDiagnostics(refused, compiled)]
      .map(({ code, subject }) => `${code} ${subject}`)
      .join('\n');
  }

  #publish(compiled: Compiled): void {
    const encoded = encodePolicySnapshot(snapshotOf(compiled.members, 'one', 1));
    assert.ok(encoded.ok);
    const decoded = decodePolicySnapshot(encoded.value);
    assert.ok(decoded.ok, decoded.ok ? '' : decoded.error);
    this.#tables = new PolicyTables(buildImage(decoded.value).image);
  }

  #write(compiled: Compiled, fault: NodeFault | null, faulty: number): readonly Refused[] {
    const ip = address(podAddress(faulty));
    const policyId = compiled.endpoints.find(
      (each) => Buffer.compare(each.address, ip) === 0,
    )?.policyId;
    const maps = this.#maps;
    const isOf = (key: Uint8Array, offset: number): boolean =>
      new DataView(key.buffer).getUint32(offset, true) === policyId;
    const { refuses } = fault ?? {};
    maps.policy.refuses = (key) => refuses === 'policy' && isOf(key, tdPolicyKey.policy_id);
    maps.dns_servers.refuses = (key) =>
      refuses === 'dns_servers' && isOf(key, tdDnsServerKey.policy_id);
    maps.endpoints.refuses = (key, value) =>
      refuses === 'endpoints' &&
      Buffer.compare(key, ip) === 0 &&
      (decodeEndpoint(value).flags & EndpointFlag.hold) === 0;
    const datapath = {
      map: (name: string) =>
        name === 'group' ? { mmap: () => this.#group } : maps[name as MapName],
      table: (name: string) => this.#tableOf(name as MapName),
    } as unknown as AppliedMaps;
    const former = this.#isWhole ? this.#compilations.applied : null;
    this.#compilations.begin(compiled);
    const refused = applyToDatapath({
      datapath,
      compiled,
      former,
      retained: compiled.isRetained ? this.#compilations.retained : new Map(),
      endpoints: compiled.endpoints.map((endpoint) =>
        encodeEndpoint(endpoint.address, {
          ...endpoint,
          vethIfindex: 1,
          l3Ifindex: 1,
          bridgeMac: new Uint8Array(6),
          mac: new Uint8Array(6),
        }),
      ),
      capacities: this.#capacities,
    });
    this.#assertCounted();
    this.#compilations.succeeded(compiled);
    this.#isWhole = refused.length === 0;
    if (this.#isWhole) this.#assertWhole(compiled);
    for (const id of policiesInUse(datapath)) assert.ok(id === 0 || compiled.policies.has(id));
    return refused;
  }

  /** Whatever was written, what is there is what writing everything gives. */
  #assertWhole({ policies, classTable, classes }: Compiled): void {
    const wanted = policyEntries(policies.values(), classTable);
    assert.equal(this.#tableOf('policy').differs(wanted), false);
    assert.equal(this.#tableOf('classes').differs(Array.from(classes, entryOf)), false);
  }

  /** The agent counts additions to `policy` before any packet is judged: `judge` caches denials until the count changes. */
  #assertCounted(): void {
    assert.notEqual(this.#policiesAtAdding, new NodeGroup(this.#group).policies);
  }

  /** Remembers what it wrote, as the agent's: also what failed halfway. */
  #tableOf(name: MapName): AgentTable {
    const table =
      this.#agentTables.get(name) ?? new AgentTable(this.#maps[name] as unknown as BpfMap, null);
    this.#agentTables.set(name, table);
    return table;
  }

  /** Answers for the pod: a line for each packet and name. */
  answers(pod: number): readonly string[] {
    const present = this.#maps.endpoints
      .entries()
      .find(([key]) => Buffer.compare(key, address(podAddress(pod))) === 0);
    if (present === undefined) return ['not an endpoint'];
    const { policyId, flags } = decodeEndpoint(present[1]);
    const lines: string[] = [];
    for (const peer of peers) {
      for (const port of ports) {
        const verdict = this.#judge(policyId, flags, peer, port);
        lines.push(`${peer}:${port} ${verdict}`);
      }
    }
    for (const name of names) lines.push(`${name} ${this.#asks(policyId, flags, name)}`);
    return lines;
  }

  #judge(policyId: number, flags: number, peer: string, port: number): string {
    if ((flags & EndpointFlag.hold) !== 0) return 'denied';
    if ((flags & EndpointFlag.enforceEgress) === 0) return 'allowed';
    const asked = [
      this.#class(peer),
      ...((flags & EndpointFlag.wildEgress) === 0 ? [] : [peerAny]),
    ];
    const verdicts = asked.map((each) => this.#lookup(policyId, each, port));
    if (verdicts.includes(Verdict.deny)) return 'denied';
    if (verdicts.includes(Verdict.l7Dns)) return 'dns';
    return verdicts.includes(Verdict.allow) ? 'allowed' : 'denied';
  }

  #class(peer: string): number {
    const target = hostPrefix(address(peer));
    let best = -1;
    let found = 1;
    for (const [key, value] of this.#maps.classes.entries()) {
      const bits = new DataView(key.buffer).getUint32(tdClassKey.prefixlen, true);
      const prefix = { address: key.subarray(tdClassKey.addr), bits };
      if (bits <= best || !trieCovers(prefix, target)) continue;
      best = bits;
      found = new DataView(value.buffer).getUint32(tdClass.id, true);
    }
    return found;
  }

  #lookup(policyId: number, peer: number, port: number): number {
    let best = -1;
    let found: number = Verdict.none;
    for (const [key, value] of this.#maps.policy.entries()) {
      const view = new DataView(key.buffer);
      const bits = view.getUint32(tdPolicyKey.prefixlen, true);
      if (view.getUint32(tdPolicyKey.policy_id, true) !== policyId) continue;
      if (view.getUint32(tdPolicyKey.peer, true) !== peer || key[tdPolicyKey.direction] !== 1)
        continue;
      const protocol = port === 53 ? 17 : 6;
      if (bits > 72 && key[tdPolicyKey.protocol] !== protocol) continue;
      const shift = 96 - Math.max(bits, 80);
      if (view.getUint16(tdPolicyKey.port_be, false) >> shift !== (bits > 80 ? port >> shift : 0))
        continue;
      if (bits > best) {
        best = bits;
        found = value[tdPolicy.verdict] ?? 0;
      }
    }
    return found;
  }

  #asks(policyId: number, flags: number, name: string): string {
    const tables = this.#tables;
    if ((flags & EndpointFlag.hold) !== 0 || tables === null) return 'refused';
    const words = new Uint32Array(address(resolver).slice().buffer);
    const ruleSet = tables.ruleSetOf(policyId as PolicyId, words, 0, 17);
    const wire = nameFromText(name);
    const view = new QueryView({ low: 3, high: 4 });
    assert.ok(wire !== null && loadName(view, wire, 0, wire.length));
    const allowed = ruleSet >= 0 && tables.isAllowed(ruleSet, tables.matcher.match(view));
    return allowed ? 'answered' : 'refused';
  }
}

function address(text: string): Uint8Array {
  const parsed = parseAddress(text);
  assert.ok(parsed !== null);
  return parsed;
}

function corrupted(state: ClusterState, fault: NodeFault | null, faulty: number): ClusterState {
  const corrupt = fault?.corrupt;
  if (corrupt === undefined) return state;
  const policies = new Map(state.policies);
  const ref = `CiliumNetworkPolicy/shop/o${faulty}`;
  const found = policies.get(ref);
  if (found?.inForce) policies.set(ref, { ...found, inForce: corrupt(found.inForce) });
  return { ...state, policies };
}
