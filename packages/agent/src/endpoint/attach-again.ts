// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Tries again to attach programs to pods' interfaces, when the attacher says: a pod without them has no network. */

/** The policy controller, as far as it matters here. */
export interface Reattaching {
  /** Each time that policy was applied, or failed to be. */
  onApplied(listener: () => void): () => void;
  reattach(): Promise<void>;
}

export class AttachAgain {
  readonly #controller: Reattaching;
  readonly #attacher: { readonly retryMs: number | null };
  readonly #forget: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(controller: Reattaching, attacher: { readonly retryMs: number | null }) {
    this.#controller = controller;
    this.#attacher = attacher;
    this.#forget = controller.onApplied(() => this.#set());
  }

  stop(): void {
    this.#forget();
    clearTimeout(this.#timer);
  }

  #set(): void {
    clearTimeout(this.#timer);
    const ms = this.#attacher.retryMs;
    if (ms !== null) this.#timer = setTimeout(() => void this.#controller.reattach(), ms);
  }
}
