// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Interned label sets, addresses, and names of namespaces, nodes and service accounts. Each agent keeps all pods of the cluster, and most
 * of them share these.
 */

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

/** The API server gives labels in one order; another order costs a copy. */
function textOf(labels: Labels): string {
  return JSON.stringify([...labels]);
}
