// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Interned label sets, addresses, and names of namespaces, nodes and service accounts. Each agent keeps all pods of the cluster, and most
 * of them share these.
 */

import type { Pod } from '@tandem/core/k8s/objects';
import { formatAddress } from '@tandem/core/net/ip';
import { internedTextsMax } from '../limits.ts';

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

/** The same pod, of parts that others have too. Its labels are taken. */
export function sharedPod(pod: Pod, texts: Texts, labels: LabelSets, ports: NamedPorts): Pod {
  const { kind, name, uid, hostNetwork, addresses, isFinished, isDeleting, createdAt } = pod;
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
          createdAt,
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
          createdAt,
          namedPorts: ports.shared(pod.namedPorts),
        };
  return pod.isPartial === undefined ? shared : { ...shared, isPartial: true };
}

/** The API server gives labels in one order; another order costs a copy. */
function textOf(labels: Labels): string {
  return JSON.stringify([...labels]);
}
