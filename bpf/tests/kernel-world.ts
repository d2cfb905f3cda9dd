// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The world as the maps of the programs have it: what a test says about endpoints, classes, policy, DNS servers and members.
 * Times and marks are fixed.
 */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { btfTypes } from '@tandem/bpf-loader-node/btf';
import type { BpfMap } from '@tandem/bpf-loader-node/map';
import { netnsCookie } from '@tandem/bpf-loader-node/netns';
import { BpfObject } from '@tandem/bpf-loader-node/object';
import { mappedAddressBytes } from '@tandem/testing/address';
import { Structs } from './structs.ts';

/** Mark of steered packets. */
export const mark = 0x1000;
export const portP = 10053;
export const ownerUid = 65532;
export const quota = { namespace: 100, selector: 60 } as const;
/** TD_VERDICT_DECIDED: a macro, so BTF does not have it. */
const verdictDecided = 0x80;
/** Seconds after expiry in which an address in use takes new connections, and how long a packet is use. */
export const liveSeconds = 1000;
export const liveIdleSeconds = 100;
/** The loopback's, the one device of a tc test run. */
export const testIfindex = 1;

/** Small, so that a test can fill them. */
const testMaxEntries = {
  endpoints: 256,
  classes: 4096,
  policy: 4096,
  dns_servers: 256,
  fqdn: 4096,
  fqdn_live: 4096,
  quotas: 2048,
  learned_spaces: 4096,
} as const;

/** enum device_side. */
const sides = { OUTSIDE: 0, POD: 1, STRANGER: 2, OWN: 3 } as const;

const directory = fileURLToPath(new URL('..', import.meta.url));

const filledMaps = [
  'endpoints',
  'pod_macs',
  'tunnel_ports',
  'classes',
  'policy',
  'dns_servers',
  'fqdn',
  'fqdn_live',
  'quotas',
  'learned_spaces',
  'connect_pace',
  'query_pace',
  'payer_pace',
] as const;

export interface EndpointSpec {
  readonly id?: number;
  readonly policyId?: number;
  readonly ifindex?: number;
  readonly l3Ifindex?: number;
  readonly classId?: number;
  /** Names of td_endpoint_flags without TD_EP_. */
  readonly flags?: readonly string[];
  readonly bridgeMac?: Uint8Array;
  readonly mac?: Uint8Array;
}

export interface PolicySpec {
  readonly policyId?: number;
  readonly peer: number;
  readonly direction: 'ingress' | 'egress';
  readonly verdict: 'NONE' | 'ALLOW' | 'DENY' | 'L7_DNS';
  /** The entry says what the rules for every peer say, too. */
  readonly isDecided?: boolean;
  readonly protocol?: number;
  readonly port?: number;
  /** Bits of the port that must match; default 16 with a port, 0 without. */
  readonly portBits?: number;
  readonly ruleId?: number;
}

function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

/** The programs' maps, filled by a test. Of the shipped object, or of the one in which facts of the kernel come from `facts`. */
export class KernelWorld {
  readonly object: BpfObject;
  readonly structs: Structs;
  readonly #isTestObject: boolean;
  /** Devices whose entry of `test_devices` is not 0. */
  readonly #devices = new Set<number>();
  readonly #group: Uint8Array;

  constructor(
    maxEntries: Readonly<Record<string, number>>,
    isTestObject: boolean,
    config: Readonly<Record<string, number | Uint8Array>>,
  ) {
    this.#isTestObject = isTestObject;
    execFileSync('make', ['-s', 'all', 'test-object'], { cwd: directory });
    this.object = BpfObject.open(`${directory}build/${isTestObject ? 'test/' : ''}tandem.bpf.o`);
    this.structs = new Structs(btfTypes(this.object));
    for (const [map, count] of Object.entries({ ...testMaxEntries, ...maxEntries })) {
      this.object.setMaxEntries(map, count);
    }
    this.object.setRodata('td_config', this.#config(config));
    this.object.load();
    this.#group = new Uint8Array(this.map('group').mmap());
  }

  map(name: string): BpfMap {
    return this.object.map(name);
  }

  #config(changes: Readonly<Record<string, number | Uint8Array>>): Uint8Array {
    return this.structs.bytes('td_config', {
      mark,
      port_be: portP,
      owner_uid: ownerUid,
      netns_cookie: netnsCookie(),
      stale_ns: 100_000_000n,
      fqdn_idle_s: 3600,
      fqdn_live_s: liveSeconds,
      fqdn_live_idle_s: liveIdleSeconds,
      quota_namespace: quota.namespace,
      quota_selector: quota.selector,
      pairs: testMaxEntries.fqdn,
      ...changes,
    });
  }

  /** Empties every map that tests fill. */
  reset(): void {
    for (const name of filledMaps) {
      const map = this.map(name);
      for (const [key] of [...map.entries()]) map.delete(key);
    }
    for (const ifindex of this.#devices) this.map('test_devices').update(word(ifindex), word(0));
    this.#devices.clear();
    this.#resetOrder();
    this.#group.fill(0);
    this.zero('fqdn_hints');
    // their stamps would come again, because the numbers in them begin again
    this.zero('fqdn_denials');
    this.facts({});
    const told = this.map('flood_told');
    told.update(new Uint8Array(4), new Uint8Array(told.valueBytes));
    // the pace of events is per CPU: a new test starts with all of it
    const pace = this.map('event_pace');
    pace.update(word(0), new Uint8Array(pace.valueBytes));
  }

  /** Zeroes an array. */
  zero(name: 'fqdn_hints' | 'fqdn_denials'): void {
    const { maxEntries, valueBytes } = this.map(name);
    const keys = Uint32Array.from({ length: maxEntries }, (_, i) => i);
    const values = new Uint8Array(maxEntries * valueBytes);
    this.map(name).updateBatch(new Uint8Array(keys.buffer), values, maxEntries);
  }

  #resetOrder(): void {
    const order = this.map('learned_order');
    const value = order.lookup(new Uint8Array(4));
    assert.ok(value !== null);
    const used = this.structs.read('td_order', value, 'used_pairs');
    const pairs = new Uint8Array(this.map('learned_pairs').mmap());
    pairs.fill(0, 0, (used + 1) * this.structs.layout('td_pair').size);
    order.update(new Uint8Array(4), new Uint8Array(order.valueBytes));
  }

  endpoint(address: string, spec: EndpointSpec = {}): void {
    const flags = (spec.flags ?? []).map((name) => this.structs.number(`TD_EP_${name}`));
    const ifindex = spec.ifindex ?? testIfindex;
    this.map('endpoints').update(
      mappedAddressBytes(address),
      this.structs.bytes('td_endpoint', {
        id: spec.id ?? 1,
        policy_id: spec.policyId ?? 1,
        veth_ifindex: ifindex,
        l3_ifindex: spec.l3Ifindex ?? ifindex,
        class_id: spec.classId ?? 90,
        flags: flags.reduce((bits, flag) => bits | flag, 0),
        namespace_id: 1,
        bridge_mac: spec.bridgeMac ?? new Uint8Array(6),
        mac: spec.mac ?? new Uint8Array(6),
      }),
    );
    if (this.#isTestObject) this.device(ifindex, 'POD');
    if (spec.mac === undefined) return;
    this.map('pod_macs').update(word(ifindex), this.structs.bytes('td_pod_mac', { mac: spec.mac }));
  }

  /** Sets the owner of an interface. The test object believes it; the shipped object reads the real interfaces. */
  device(ifindex: number, side: keyof typeof sides | 'TRUSTED'): void {
    if (this.#isTestObject) {
      const value = side === 'TRUSTED' ? sides.OUTSIDE : sides[side];
      this.#devices.add(ifindex);
      this.map('test_devices').update(word(ifindex), word(value + 1));
      return;
    }
    const map = side === 'TRUSTED' ? 'trusted_devices' : 'pod_devices';
    this.map(map).update(word(ifindex), word(ifindex));
  }

  podBridge(name: string): void {
    const key = new Uint8Array(16);
    new TextEncoder().encodeInto(name, key);
    this.map('pod_bridges').update(key, word(1));
  }

  /** Indices in `pod_devices`; the kernel takes those away whose interface goes. */
  podDevices(): number[] {
    return [...this.map('pod_devices').entries()].map(([key]) =>
      new DataView(key.buffer, key.byteOffset).getUint32(0, true),
    );
  }

  tunnelPort(port: number): void {
    this.map('tunnel_ports').update(word(port), word(1));
  }

  /** `bits` count as in the prefix's own family. */
  class(address: string, bits: number, id: number, flags: readonly string[] = []): void {
    this.map('classes').update(
      this.structs.bytes('td_class_key', {
        prefixlen: address.includes(':') ? bits : 96 + bits,
        addr: mappedAddressBytes(address),
      }),
      this.structs.bytes('td_class', {
        id,
        flags: flags
          .map((name) => this.structs.number(`TD_CLASS_${name}`))
          .reduce((all, flag) => all | flag, 0),
      }),
    );
  }

  policy(spec: PolicySpec): void {
    const portBits = spec.portBits ?? (spec.port === undefined ? 0 : 16);
    this.map('policy').update(
      this.structs.bytes('td_policy_key', {
        prefixlen: spec.protocol === undefined ? 72 : 80 + portBits,
        policy_id: spec.policyId ?? 1,
        peer: spec.peer,
        direction: spec.direction === 'ingress' ? 0 : 1,
        protocol: spec.protocol ?? 0,
        port_be: spec.port ?? 0,
      }),
      this.structs.bytes('td_policy', {
        verdict:
          this.structs.number(`TD_VERDICT_${spec.verdict}`) |
          (spec.isDecided === true ? verdictDecided : 0),
        rule_id: spec.ruleId ?? 0,
      }),
    );
    this.group({ policies: this.groupField('policies') + 1 });
  }

  dnsServer(server: string, protocol: number, policyId = 1): void {
    this.map('dns_servers').update(
      this.structs.bytes('td_dns_server_key', {
        policy_id: policyId,
        server: server === '*' ? new Uint8Array(16) : mappedAddressBytes(server),
        protocol,
      }),
      this.structs.bytes('td_dns_server', { rule_set_id: 1 }),
    );
  }

  member(
    index: number,
    state: 'NONE' | 'LIVE' | 'DRAIN' | 'DEAD',
    options: { readonly ageMs?: number; readonly revision?: number } = {},
  ): void {
    const layout = this.structs.layout('td_member');
    const at = this.structs.layout('td_group').fields.get('member');
    assert.ok(at !== undefined);
    const start = at.offset + index * layout.size;
    this.#group.set(
      this.structs.bytes('td_member', {
        beat_ns: process.hrtime.bigint() - BigInt((options.ageMs ?? 0) * 1_000_000),
        state: this.structs.number(`TD_MEMBER_${state}`),
        revision: options.revision ?? 0,
      }),
      start,
    );
  }

  group(fields: Readonly<Record<string, number>>): void {
    for (const [field, value] of Object.entries(fields)) {
      this.structs.write('td_group', this.#group, field, value);
    }
  }

  groupField(field: string): number {
    return this.structs.read('td_group', this.#group, field);
  }

  /** Facts of the kernel that judge reads: see tests/include/tandem/hook_facts.h. */
  facts(fields: Readonly<Record<string, number | Uint8Array>>): void {
    this.map('test_facts').update(new Uint8Array(4), this.structs.bytes('test_facts', fields));
  }
}
