// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The datapath of hooks.namespace.test.ts and devices.namespace.test.ts, in the node's network namespace (links attach to the namespace
 * of their process): loads the shipped object, attaches all of it, then answers requests, one JSON line each.
 * Its end removes everything.
 */

import { createInterface } from 'node:readline';
import { attachNetfilter, attachTcx } from '@tandem/bpf-loader-node/link';
import { macBytes } from '@tandem/testing/address';
import { Fixture } from './fixture.ts';
import { type EndpointSpec, type PolicySpec } from './kernel-world.ts';
import { type LearnRequest, learn } from './learning.ts';

export interface HookPlan {
  readonly endpoints: readonly (EndpointSpec & {
    readonly addresses: readonly string[];
    readonly ifindex: number;
    /** EndpointSpec.mac, as JSON has it. */
    readonly macText?: string;
  })[];
  readonly classes: readonly (readonly [
    address: string,
    bits: number,
    id: number,
    flags: string[],
  ])[];
  readonly policies: readonly PolicySpec[];
  readonly dnsServers: readonly string[];
  /** Indices of interfaces that are no pod's. */
  readonly trusted: readonly number[];
  /** Names of pods' bridges. */
  readonly bridges?: readonly string[];
}

export type HookRequest =
  | { readonly kind: 'counters' }
  | { readonly kind: 'podDevices' }
  /** Reasons of the events since the last time. */
  | { readonly kind: 'events' }
  | { readonly kind: 'member'; readonly state: 'LIVE' | 'DEAD' }
  | { readonly kind: 'learn'; readonly requests: readonly LearnRequest[] };

function start(plan: HookPlan): Fixture {
  const fixture = new Fixture({}, false);
  for (const { addresses, macText, ...spec } of plan.endpoints) {
    const mac = macText === undefined ? {} : { mac: macBytes(macText) };
    for (const address of addresses) fixture.endpoint(address, { ...spec, ...mac });
  }
  for (const [address, bits, id, flags] of plan.classes) fixture.class(address, bits, id, flags);
  for (const spec of plan.policies) fixture.policy(spec);
  for (const server of plan.dnsServers) fixture.dnsServer(server, 17);
  const fd = new Uint8Array(4);
  new DataView(fd.buffer).setUint32(0, fixture.object.program('judge').fd, true);
  fixture.map('judge_slot').update(new Uint8Array(4), fd);
  const root = fixture.object.program('judge_root');
  const guard = fixture.object.program('guard_entry');
  for (const family of ['ipv4', 'ipv6'] as const) {
    attachNetfilter({ program: root, family, hook: 'postRouting', priority: 90 });
    attachNetfilter({ program: root, family, hook: 'localIn', priority: 112 });
    attachNetfilter({ program: guard, family, hook: 'preRouting', priority: -250 });
  }
  for (const ifindex of plan.trusted) fixture.device(ifindex, 'TRUSTED');
  for (const name of plan.bridges ?? []) fixture.podBridge(name);
  for (const { ifindex } of plan.endpoints) {
    const program = (name: string) => fixture.object.program(name);
    attachTcx({ program: program('from_pod'), ifindex, direction: 'ingress' });
    attachTcx({ program: program('to_pod'), ifindex, direction: 'egress' });
    fixture.device(ifindex, 'POD');
  }
  return fixture;
}

function answer(fixture: Fixture, request: HookRequest): unknown {
  if (request.kind === 'counters') return fixture.counters();
  if (request.kind === 'events') {
    return fixture.takeEvents().map((event) => fixture.reason(event.read('reason')));
  }
  if (request.kind === 'podDevices') return fixture.podDevices();
  if (request.kind === 'learn') return learn(fixture, request.requests);
  fixture.member(0, request.state);
  return null;
}

if (process.argv[2] !== undefined) {
  const fixture = start(JSON.parse(process.argv[2]) as HookPlan);
  console.log('"ready"');
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(answer(fixture, JSON.parse(line) as HookRequest)));
  }
}
