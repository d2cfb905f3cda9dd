// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * What the churn trial has told the API server, and when; and what NetworkPolicy, read naively, says of it. A verdict is wrong only when
 * no state of the stated window says the same.
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

interface Epoch {
  /** Just before the change was sent, by `performance.now`. */
  readonly sinceMs: number;
  readonly state: ModelState;
}

const historyMs = 120_000;

export class Model {
  #epochs: Epoch[];

  constructor(state: ModelState) {
    this.#epochs = [{ sinceMs: performance.now(), state }];
  }

  get state(): ModelState {
    const latest = this.#epochs.at(-1);
    if (latest === undefined) throw new Error('the model has a state from its start');
    return latest.state;
  }

  /** To be called before the change is sent. */
  change(state: ModelState): void {
    const nowMs = performance.now();
    const firstKept = this.#epochs.findLastIndex(({ sinceMs }) => sinceMs < nowMs - historyMs);
    this.#epochs = [...this.#epochs.slice(Math.max(0, firstKept)), { sinceMs: nowMs, state }];
  }

  /** Milliseconds since a state last allowed it; 0: the present one does; Infinity: none that is remembered. */
  staleness(sender: string, receiver: string): number {
    if (isAllowed(this.state, sender, receiver) === true) return 0;
    const place = this.#epochs.findLastIndex(
      ({ state }) => isAllowed(state, sender, receiver) === true,
    );
    const ended = this.#epochs[place + 1];
    if (place === -1 || ended === undefined) return Number.POSITIVE_INFINITY;
    return performance.now() - ended.sinceMs;
  }

  /** Whether each state of the last `spanMs` allows it. */
  isAllowedSince(sender: string, receiver: string, spanMs: number): boolean {
    const fromMs = performance.now() - spanMs;
    const first = Math.max(
      0,
      this.#epochs.findLastIndex(({ sinceMs }) => sinceMs <= fromMs),
    );
    return this.#epochs
      .slice(first)
      .every(({ state }) => isAllowed(state, sender, receiver) === true);
  }
}

/** Null: one of them is not there. */
function isAllowed(state: ModelState, sender: string, receiver: string): boolean | null {
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
  return passes(from, to, ({ egress }) => egress) && passes(to, from, ({ ingress }) => ingress);
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
