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

/** Label sets, each kept while it has users. */
export class LabelSets {
  readonly #byText = new Map<string, LabelSet>();

  get size(): number {
    return this.#byText.size;
  }

  /** The copy that all share; each call is undone by one of `release`. */
  take(labels: Labels): Labels {
    const text = entriesText(labels);
    const found = this.#byText.get(text);
    if (found !== undefined) {
      found.users += 1;
      return found.labels;
    }
    this.#byText.set(text, { labels, users: 1 });
    return labels;
  }

  release(labels: Labels): void {
    const text = entriesText(labels);
    const found = this.#byText.get(text);
    if (found === undefined) return;
    found.users -= 1;
    if (found.users === 0) this.#byText.delete(text);
  }
}

/**
 * Values that many objects have: `shared` returns the first one with the same text. The table forgets all its values when it has
 * `internedTextsMax`; values that are still in use are shared again from their next use on.
 */
export class Shared<T> {
  readonly #textOf: (value: T) => string;
  readonly #values = new Map<string, T>();

  constructor(textOf: (value: T) => string) {
    this.#textOf = textOf;
  }

  shared(value: T): T {
    const text = this.#textOf(value);
    const found = this.#values.get(text);
    if (found !== undefined) return found;
    if (this.#values.size >= internedTextsMax) this.#values.clear();
    this.#values.set(text, value);
    return value;
  }
}

export const sharedTexts = (): Shared<string> => new Shared((text) => text);

/** For addresses of EndpointSlices: a pod's address is in the slices of all its Services. */
export const sharedAddresses = (): Shared<Uint8Array> => new Shared(formatAddress);

/** For named ports of containers: pods of one workload have equal ones. */
export const sharedPorts = (): Shared<ReadonlyMap<string, number>> =>
  new Shared((ports) => entriesText(ports));

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

export interface SharedParts {
  readonly texts: Shared<string>;
  readonly labels: LabelSets;
  readonly ports: Shared<ReadonlyMap<string, number>>;
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

/** The API server gives the entries of equal objects in one order; another order costs a copy. */
function entriesText(entries: ReadonlyMap<string, string | number>): string {
  return JSON.stringify([...entries]);
}
