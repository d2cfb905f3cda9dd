// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import { digestsKeptMax } from '../../limits.ts';
import { digest128 } from '../../sha256.ts';

/** Digests of contents that are asked for again and again: those asked for last, `digestsKeptMax` to twice as many. */
export class DigestCache {
  #young = new Map<string, string>();
  #old = new Map<string, string>();

  of(content: string): string {
    const young = this.#young.get(content);
    if (young !== undefined) return young;
    const digest = this.#old.get(content) ?? digest128(content);
    if (this.#young.size >= digestsKeptMax) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(content, digest);
    return digest;
  }
}
