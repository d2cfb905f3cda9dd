// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Objects that the churn trial has written to the API server, with times, and the verdicts of NetworkPolicy by a naive reading of them. A
 * verdict of Tandem is wrong only if no state within the stated window gives the same.
 */

export type Labels = Readonly<Record<string, string>>;

export interface ModelPod {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Labels;
}

/** One peer; absent: not selected by. Both: pods of such namespaces. */
export interface ModelPeer {
  readonly namespaces?: Labels;
  readonly pods?: Labels;
}

export interface ModelPolicy {
  readonly name: string;
  readonly namespace: string;
  readonly subject: Labels;
  /** Null: the direction is not its business. */
  readonly ingress: readonly ModelPeer[] | null;
  readonly egress: readonly ModelPeer[] | null;
}

export interface ModelState {
  readonly namespaces: ReadonlyMap<string, Labels>;
  readonly pods: ReadonlyMap<string, ModelPod>;
  readonly policies: ReadonlyMap<string, ModelPolicy>;
}

/** Times are `Date.now`'s: other processes tell theirs. */
interface Epoch {
  /** Just before the change was sent. */
  readonly sentMs: number;
  /** When the API server had taken it; Infinity: it has not yet. */
  takenMs: number;
  readonly state: ModelState;
}

const historyMs = 120_000;

export class Model {
  #epochs: Epoch[];

  constructor(state: ModelState) {
    this.#epochs = [{ sentMs: Date.now(), takenMs: Date.now(), state }];
  }

  get state(): ModelState {
    return this.#latest.state;
  }

  get #latest(): Epoch {
    const latest = this.#epochs.at(-1);
    if (latest === undefined) throw new Error('the model has a state from its start');
    return latest;
  }

  /** `send` tells the API server. */
  async change(state: ModelState, send: () => Promise<void>): Promise<void> {
    const nowMs = Date.now();
    const firstKept = this.#epochs.findLastIndex(({ takenMs }) => takenMs < nowMs - historyMs);
    const epoch: Epoch = { sentMs: nowMs, takenMs: Number.POSITIVE_INFINITY, state };
    this.#epochs = [...this.#epochs.slice(Math.max(0, firstKept)), epoch];
    await send();
    epoch.takenMs = Date.now();
  }

  /**
   * Milliseconds from when the API server had taken the change that ended the last state that allowed it to `atMs`; 0 or less: it was
   * allowed; Infinity: no state that is remembered allowed it. The nodes of sender and receiver may be at different states, and each
   * judges one direction: the staler one counts.
   */
  staleness(sender: string, receiver: string, atMs: number): number {
    return Math.max(
      this.#staleness(atMs, (state) => verdicts(state, sender, receiver)?.egress === true),
      this.#staleness(atMs, (state) => verdicts(state, sender, receiver)?.ingress === true),
    );
  }

  #staleness(atMs: number, isAllowed: (state: ModelState) => boolean): number {
    const before = this.#epochs.filter(({ sentMs }) => sentMs <= atMs);
    const place = before.findLastIndex(({ state }) => isAllowed(state));
    if (place === -1) return Number.POSITIVE_INFINITY;
    const ended = before[place + 1];
    return ended === undefined ? 0 : atMs - ended.takenMs;
  }

  /** Whether each state that may have been in force in the last `spanMs` allows it. */
  isAllowedSince(sender: string, receiver: string, spanMs: number): boolean {
    const fromMs = Date.now() - spanMs;
    const first = Math.max(
      0,
      this.#epochs.findLastIndex(({ takenMs }) => takenMs <= fromMs),
    );
    return this.#epochs.slice(first).every(({ state }) => {
      const { egress, ingress } = verdicts(state, sender, receiver) ?? {};
      return egress === true && ingress === true;
    });
  }
}

/** Null: one of them is not there. */
function verdicts(
  state: ModelState,
  sender: string,
  receiver: string,
): { readonly egress: boolean; readonly ingress: boolean } | null {
  const from = state.pods.get(sender);
  const to = state.pods.get(receiver);
  if (from === undefined || to === undefined) return null;
  const policies = [...state.policies.values()];
  const of = (pod: ModelPod): readonly ModelPolicy[] =>
    policies.filter(
      ({ namespace, subject }) => namespace === pod.namespace && has(pod.labels, subject),
    );
  const passes = (
    pod: ModelPod,
    peer: ModelPod,
    peersOf: (policy: ModelPolicy) => readonly ModelPeer[] | null,
  ): boolean => {
    const concerned = of(pod).flatMap((policy) => {
      const peers = peersOf(policy);
      return peers === null ? [] : [{ policy, peers }];
    });
    if (concerned.length === 0) return true;
    return concerned.some(({ policy, peers }) =>
      peers.some((each) => selects(state, policy.namespace, each, peer)),
    );
  };
  return {
    egress: passes(from, to, ({ egress }) => egress),
    ingress: passes(to, from, ({ ingress }) => ingress),
  };
}

function selects(state: ModelState, own: string, peer: ModelPeer, pod: ModelPod): boolean {
  const { namespaces, pods } = peer;
  const isNamespace =
    namespaces === undefined
      ? pod.namespace === own
      : has(state.namespaces.get(pod.namespace) ?? {}, namespaces);
  return isNamespace && has(pod.labels, pods ?? {});
}

const has = (labels: Labels, wanted: Labels): boolean =>
  Object.entries(wanted).every(([key, value]) => labels[key] === value);
