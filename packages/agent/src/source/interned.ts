// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Interned label sets, addresses, and names of namespaces, nodes and service accounts. Each agent keeps all pods of the cluster, and most
 * of them share these.
 */

import type { Pod } from '@tandem/core/k8s/objects';
import { addressBytes, formatAddress } from '@tandem/core/net/ip';
import { internedTextsMax } from '../limits.ts';

const packedCount = 64;

export type Labels = ReadonlyMap<string, string>;

interface LabelSet {
  readonly labels: Labels;
  users: number;
}

/** Label sets, as long as somebody uses them. */
export class LabelSets {
  readonly #byText = new Map<string, LabelSet>();

  get size(): number {
    return this.#byText.size;
  }

  /** The copy that all share; each call is undone by one of `release`. */
  take(labels: Labels): Labels {
    const text = textOf(labels);
    const found = this.#byText.get(text);
    if (found !== undefined) {
      found.users += 1;
      return found.labels;
    }
    this.#byText.set(text, { labels, users: 1 });
    return labels;
  }

  release(labels: Labels): void {
    const text = textOf(labels);
    const found = this.#byText.get(text);
    if (found === undefined) return;
    found.users -= 1;
    if (found.users === 0) this.#byText.delete(text);
  }
}

/** Names. Of those that are gone the copies go when there are too many. */
export class Texts {
  readonly #texts = new Map<string, string>();

  shared(text: string): string {
    const found = this.#texts.get(text);
    if (found !== undefined) return found;
    if (this.#texts.size >= internedTextsMax) this.#texts.clear();
    this.#texts.set(text, text);
    return text;
  }
}

/** Addresses: each pod's stands in the EndpointSlices of all its Services. As `Texts`. */
export class Addresses {
  readonly #addresses = new Map<string, Uint8Array>();

  shared(address: Uint8Array): Uint8Array {
    const text = formatAddress(address);
    const found = this.#addresses.get(text);
    if (found !== undefined) return found;
    if (this.#addresses.size >= internedTextsMax) this.#addresses.clear();
    this.#addresses.set(text, address);
    return address;
  }
}

/**
 * Addresses of pods, 64 in one buffer: a buffer for each would take as much again as the address. A buffer lives as long as
 * one of its addresses.
 */
export class PackedAddresses {
  #buffer = new Uint8Array(0);
  #at = 0;

  packed(addresses: readonly Uint8Array[]): readonly Uint8Array[] {
    return addresses.map((address) => {
      if (this.#at === this.#buffer.length) {
        this.#buffer = new Uint8Array(packedCount * addressBytes);
        this.#at = 0;
      }
      const own = this.#buffer.subarray(this.#at, (this.#at += addressBytes));
      own.set(address);
      return own;
    });
  }
}

/** Named ports of containers: pods of one kind have the same. As `Texts`. */
export class NamedPorts {
  readonly #ports = new Map<string, ReadonlyMap<string, number>>();

  shared(ports: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
    const text = JSON.stringify([...ports]);
    const found = this.#ports.get(text);
    if (found !== undefined) return found;
    if (this.#ports.size >= internedTextsMax) this.#ports.clear();
    this.#ports.set(text, ports);
    return ports;
  }
}

export interface SharedParts {
  readonly texts: Texts;
  readonly labels: LabelSets;
  readonly ports: NamedPorts;
  readonly addresses: PackedAddresses;
}

/** The same pod, of parts that others have too. Its labels are taken. */
export function sharedPod(pod: Pod, { texts, labels, ports, ...parts }: SharedParts): Pod {
  const { kind, name, uid, hostNetwork, isFinished, isDeleting, createdSeconds } = pod;
  const addresses = parts.addresses.packed(pod.addresses);
  const namespace = texts.shared(pod.namespace);
  const nodeName = texts.shared(pod.nodeName);
  const serviceAccount = texts.shared(pod.serviceAccount);
  const taken = labels.take(pod.labels);
  // Written out: an object that is spread has part of its fields in a second one.
  const shared: Pod =
    pod.namedPorts === undefined
      ? {
          kind,
          namespace,
          name,
          uid,
          labels: taken,
          nodeName,
          hostNetwork,
          serviceAccount,
          addresses,
          isFinished,
          isDeleting,
          createdSeconds,
        }
      : {
          kind,
          namespace,
          name,
          uid,
          labels: taken,
          nodeName,
          hostNetwork,
          serviceAccount,
          addresses,
          isFinished,
          isDeleting,
          createdSeconds,
          namedPorts: ports.shared(pod.namedPorts),
        };
  return pod.isPartial === undefined ? shared : { ...shared, isPartial: true };
}

/** The API server gives labels in one order; another order costs a copy. */
function textOf(labels: Labels): string {
  return JSON.stringify([...labels]);
}
