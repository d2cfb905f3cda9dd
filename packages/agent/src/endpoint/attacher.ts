// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Pods' interfaces: says what `endpoints` is to hold, and then puts the programs on the veths. In this order, so
 * that a running pod loses no packet: `from_pod` drops what comes from an address that is not in `endpoints`. For the same
 * reason all interfaces are introduced before the first program of a first start: `to_pod` drops what a bridge switches from unknown
 * ones. A pod whose interface is not found is not in the map, so that its traffic is dropped.
 */

import { tcxPinsMax } from '@tandem/bpf-loader-node/link-pins';
import type { EndpointId, Ifindex } from '@tandem/core/ids';
import { formatAddress } from '@tandem/core/net/ip';
import type { Diagnostic, EndpointDesired } from '@tandem/core/policy/model/desired';
import { tdEndpointFlag } from '@tandem/datapath/abi.gen';
import type { Datapath, PodVeth } from '@tandem/datapath/datapath';
import { word } from '@tandem/datapath/device-maps';
import { decodeEndpoint, type Entry, encodeEndpoint } from '@tandem/datapath/encode';
import type { Link } from '@tandem/netlink/link';
import type { NetworkView } from '@tandem/netlink/network-view';
import { systemClock } from '@tandem/runtime/system-clock';
import { TandemError } from '@tandem/runtime/tandem-error';
import { AttachRetries } from './attach-retries.ts';
import { ensureBridgeEntries } from './bridge-entries.ts';
import {
  EndpointInterfaces,
  type InterfaceProblem,
  type KnownInterface,
  nameOf,
} from './endpoint-interfaces.ts';
import { type ClassifiedDevices, classifyDevices, type DeviceOptions } from './node-devices.ts';
import type { PodInterface } from './pod-interface.ts';

export interface AttachedEndpoint extends EndpointDesired {
  readonly interface: PodInterface;
}

/** Result of the search, before anything is changed. */
export interface AttachPlan {
  readonly endpoints: readonly AttachedEndpoint[];
  readonly entries: readonly Entry[];
  readonly diagnostics: readonly Diagnostic[];
}

/**
 * Interfaces whose programs are looked up in the kernel: all, or only those to which this process has not attached. The
 * kernel removes an interface that is deleted from `pod_devices`, so a new one with its index counts as new.
 */
export type CheckedInterfaces = 'all' | 'new';

export class Attacher {
  readonly #datapath: Datapath;
  readonly #view: NetworkView;
  readonly #options: DeviceOptions;
  readonly #onDevices: (devices: ClassifiedDevices) => void;
  readonly #interfaces: EndpointInterfaces;
  /** MAC addresses of the interfaces that this process attached to. */
  readonly #attached = new Map<Ifindex, Uint8Array | null>();
  readonly #retries = new AttachRetries(() => systemClock.monotonicMs());
  /** The last links that another thread makes. */
  #attaching: Promise<unknown> = Promise.resolve();
  #isStopped = false;

  /** `onDevices`: pods' programs are attached, and these are the node's other interfaces. */
  constructor(
    datapath: Datapath,
    view: NetworkView,
    options: DeviceOptions,
    onDevices: (devices: ClassifiedDevices) => void = () => undefined,
  ) {
    this.#datapath = datapath;
    this.#view = view;
    this.#options = options;
    this.#onDevices = onDevices;
    this.#interfaces = new EndpointInterfaces(knownInterfaces(datapath));
  }

  /** After how many ms `attach` should be called again for what failed; null: not before the next reconciliation. */
  get retryMs(): number | null {
    return this.#retries.nextMs;
  }

  /** Looks for the interfaces of all pods. Never rejects. */
  async plan(desired: readonly EndpointDesired[]): Promise<AttachPlan> {
    const { state, problems: unread } = this.#view;
    const devices = this.devices();
    const trusted = new Set(devices.trusted);
    const { found, problems } = await this.#interfaces.resolve(desired, {
      state,
      isTrusted: (ifindex) => trusted.has(ifindex),
      isAttached: (ifindex) => this.#isAttached(ifindex),
      peerMac: (link) => this.#peerMac(link),
    });
    const endpoints = desired.flatMap((endpoint) => {
      const at = found.get(endpoint.endpointId);
      return at === undefined ? [] : [{ ...endpoint, interface: at }];
    });
    return {
      endpoints,
      entries: endpoints.map(entryOf),
      diagnostics: [...[...unread].map(notRead), ...problems.map(notFound)],
    };
  }

  /**
   * After the entries are in the kernel. Gives what could not be done.
   * @throws TandemError only when the agent stops before all is attached: then nothing may rely on it
   */
  async attach(
    { endpoints }: AttachPlan,
    checked: CheckedInterfaces,
  ): Promise<readonly Diagnostic[]> {
    const wanted = new Map<Ifindex, AttachedEndpoint>();
    for (const endpoint of endpoints) {
      const { vethIfindex } = endpoint.interface;
      if (!wanted.has(vethIfindex)) wanted.set(vethIfindex, endpoint);
    }
    const problems = await this.#attachAll([...wanted.values()], checked);
    this.#requireRunning();
    const diagnostics = [...problems].map(([ifindex, problem]) =>
      notAttached(wanted.get(ifindex)!, problem),
    );
    this.#retries.tried(problems.keys());
    this.#datapath.detachEndpoints((ifindex) => wanted.has(ifindex));
    for (const ifindex of [...this.#attached.keys()]) {
      if (!wanted.has(ifindex)) this.#attached.delete(ifindex);
    }
    const { state, rtnetlink } = this.#view;
    const failed = await ensureBridgeEntries(state, rtnetlink, endpoints);
    this.#requireRunning();
    const devices = this.devices();
    const unwritten = this.#write(devices);
    const unguarded = await this.#guardExits(devices);
    this.#requireRunning();
    return [...diagnostics, ...failed.map(notPinned), ...unwritten, ...unguarded];
  }

  /** From when this resolves on nothing is attached any more. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#attaching;
  }

  /** Says in the kernel which interfaces are no pod's. */
  writeDevices(): readonly Diagnostic[] {
    return this.#write(this.devices());
  }

  #write(devices: ClassifiedDevices): readonly Diagnostic[] {
    const failed = this.#datapath.setNodeDevices(devices);
    this.#onDevices(devices);
    return [...failed.map(notWritten), ...unknownInterfaces(devices)];
  }

  /** After `writeDevices`: between trusted ports everything passes. */
  async #guardExits({ trustedPorts }: ClassifiedDevices): Promise<readonly Diagnostic[]> {
    const ports = trustedPorts.map(({ ifindex }) => ifindex);
    this.#datapath.unguardExits((ifindex) => ports.includes(ifindex));
    const failed = new Map<Ifindex, string>();
    await this.#inParts(ports, async (some) => {
      for (const [ifindex, problem] of await this.#datapath.guardExits(some)) {
        failed.set(ifindex, problem);
      }
    });
    return trustedPorts.flatMap(({ name, ifindex }) => {
      const problem = failed.get(ifindex);
      return problem === undefined ? [] : [notGuarded(name, problem)];
    });
  }

  /** A bridge that had a pod stays a bridge of pods while it exists: its next pod may come while no agent runs. */
  devices(): ClassifiedDevices {
    const { state } = this.#view;
    const former = this.#datapath
      .podBridges()
      .filter((name) => state.linkByName(name)?.kind === 'bridge');
    const podBridges = [...this.#options.podBridges, ...former];
    return classifyDevices(state, { ...this.#options, podBridges }, (ifindex) =>
      this.#isAttached(ifindex),
    );
  }

  /**
   * At a first start: pods, and machines behind trusted ports, speak to pods of which some have programs already, also
   * if this process is killed before the others have them.
   */
  #introduce(ifindexes: readonly Ifindex[]): void {
    if (!this.#datapath.introducePods(ifindexes)) return;
    // What fails is said by `writeDevices`. Not `onDevices`: ARP of pods without `from_pod` would be dropped.
    this.#datapath.setNodeDevices(this.devices());
  }

  #requireRunning(): void {
    if (!this.#isStopped) return;
    throw new TandemError('TANDEM_STOPPING', 'the agent stops before all pods have programs');
  }

  /** Links that another thread makes, of so many interfaces at a time. No part begins once the agent stops. */
  async #inParts<T>(all: readonly T[], work: (some: readonly T[]) => Promise<void>): Promise<void> {
    for (let at = 0; at < all.length && !this.#isStopped; at += tcxPinsMax) {
      const attaching = work(all.slice(at, at + tcxPinsMax));
      this.#attaching = attaching;
      // oxlint-disable-next-line no-await-in-loop -- the kernel makes one link at a time
      await attaching;
    }
  }

  /** Gives what failed, by interface. */
  async #attachAll(
    endpoints: readonly AttachedEndpoint[],
    checked: CheckedInterfaces,
  ): Promise<ReadonlyMap<Ifindex, string>> {
    const problems = new Map<Ifindex, string>();
    const veths = endpoints
      .map(({ interface: found }) => vethOf(found))
      .filter(({ ifindex, mac }) => checked === 'all' || !this.#isOurs(ifindex, mac));
    this.#introduce(veths.map(({ ifindex }) => ifindex));
    await this.#inParts(veths, async (some) => {
      const failed = await this.#datapath.attachEndpoints(some);
      for (const { ifindex, mac } of some) {
        const problem = failed.get(ifindex);
        if (problem === undefined) this.#attached.set(ifindex, mac);
        else {
          this.#attached.delete(ifindex);
          problems.set(ifindex, problem);
        }
      }
    });
    return problems;
  }

  #isOurs(ifindex: Ifindex, mac: Uint8Array | null): boolean {
    const attached = this.#attached.get(ifindex);
    if (attached === undefined || !this.#isAttached(ifindex)) return false;
    return mac === null || attached === null
      ? mac === attached
      : Buffer.compare(mac, attached) === 0;
  }

  #isAttached(ifindex: Ifindex): boolean {
    return this.#datapath.map('pod_devices').lookup(word(ifindex)) !== null;
  }

  async #peerMac({ link, linkNetnsId }: Link): Promise<Uint8Array | null> {
    if (linkNetnsId === null) return null;
    const peer = await this.#view.rtnetlink.linkIn(linkNetnsId, link).catch(() => null);
    return peer === null || peer.mac.length !== 6 ? null : peer.mac;
  }
}

function vethOf({ vethIfindex, isBridged, mac }: PodInterface): PodVeth {
  const isKnown = isBridged && mac.some((octet) => octet !== 0);
  return { ifindex: vethIfindex, mac: isKnown ? mac : null };
}

/** Interfaces of the pods that an earlier process attached, from the kernel's map. */
function knownInterfaces(datapath: Datapath): ReadonlyMap<EndpointId, KnownInterface> {
  const known = new Map<EndpointId, KnownInterface>();
  for (const [, value] of datapath.map('endpoints').entries()) {
    const { endpointId, vethIfindex, mac } = decodeEndpoint(value);
    const isKnown = mac.some((octet) => octet !== 0);
    known.set(endpointId, { ifindex: vethIfindex, mac: isKnown ? mac : null });
  }
  return known;
}

function entryOf(endpoint: AttachedEndpoint): Entry {
  const { interface: found } = endpoint;
  return encodeEndpoint(endpoint.address, {
    endpointId: endpoint.endpointId,
    policyId: endpoint.policyId,
    vethIfindex: found.vethIfindex,
    l3Ifindex: found.l3Ifindex,
    classId: endpoint.classId,
    flags: endpoint.flags | (found.isBridged ? tdEndpointFlag.BRIDGED : 0),
    namespaceId: endpoint.namespaceId,
    bridgeMac: found.bridgeMac,
    mac: found.mac,
  });
}

function notRead([kind, reason]: readonly [string, string]): Diagnostic {
  return {
    severity: 'error',
    code: 'interfaces-unreadable',
    subject: 'node',
    message: `${kind} of the node cannot be read: ${reason}; known pods keep their interfaces, traffic of other pods is dropped`,
  };
}

function notFound({ code, endpoint, message, fix }: InterfaceProblem): Diagnostic {
  return {
    severity: 'error',
    code,
    subject: nameOf(endpoint),
    message: `no interface is known for ${formatAddress(endpoint.address)}, so its traffic is dropped: ${message}; ${fix}`,
  };
}

function notAttached(endpoint: AttachedEndpoint, problem: string): Diagnostic {
  return {
    severity: 'error',
    code: 'attach-failed',
    subject: nameOf(endpoint),
    message: `programs could not be attached to ${endpoint.interface.name}, so its traffic is dropped: ${problem}; it is tried again`,
  };
}

function notPinned(problem: string): Diagnostic {
  return {
    severity: 'warning',
    code: 'bridge-entry-failed',
    subject: 'node',
    message: `the kernel's entry of a pod behind a bridge could not be made: ${problem}; it is tried again`,
  };
}

function notGuarded(name: string, problem: string): Diagnostic {
  return {
    severity: 'warning',
    code: 'exit-unguarded',
    subject: 'node',
    message: `guard_exit could not be attached to ${name}, so ARP and tagged frames of unknown pods at its bridge leave there: ${problem}; it is tried again`,
  };
}

function notWritten(problem: string): Diagnostic {
  return {
    severity: 'warning',
    code: 'device-not-classified',
    subject: 'node',
    message: `an interface could not be written to the maps of trusted interfaces, bridges of pods or tunnel ports: ${problem}`,
  };
}

const unknownShownMax = 5;

function unknownInterfaces({ unknown }: ClassifiedDevices): readonly Diagnostic[] {
  if (unknown.length === 0) return [];
  const names = unknown
    .slice(0, unknownShownMax)
    .map(({ name, kind }) => (kind === 'netkit' ? `${name} (netkit, not supported)` : name));
  const more = unknown.length - names.length;
  return [
    {
      severity: 'warning',
      code: 'interface-unknown',
      subject: 'node',
      message: `all traffic of ${names.join(', ')}${more > 0 ? ` and ${more} more` : ''} is dropped: the interface leads into another network namespace or is a veth at a bridge of pods, and belongs to no known pod; if it belongs to no pod, name it in trustedInterfaces, which exempts it from policy`,
    },
  ];
}
