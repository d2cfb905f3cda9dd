// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The changes of the churn trial, drawn from a seed: each is told to the model first, then to the API server. */

import { Random } from '../../chaos/random.ts';
import { worldApiAddress } from '../layout.ts';
import type { ApiClient } from './churn-api.ts';
import type { Labels, Model, ModelPeer, ModelPod, ModelPolicy, ModelState } from './churn-model.ts';
import type { Trial } from './trial.ts';

export const churnNamespaces = ['churn-1', 'churn-2', 'churn-3'] as const;
const podLabel = { trial: 'churn' };
export const churnSelector = 'trial=churn';
const podsMax = 18;
const policiesMax = 24;
const servicesMax = 8;
const values: Readonly<Record<string, readonly string[]>> = {
  app: ['web', 'api', 'db'],
  tier: ['front', 'back'],
};
const teams = ['red', 'blue'];

export const firstState: ModelState = {
  namespaces: new Map(),
  pods: new Map(),
  policies: new Map(),
};

type Operation = () => Promise<void>;

export class ChurnOperations {
  readonly #trial: Trial;
  readonly #api: ApiClient;
  readonly #model: Model;
  readonly #counts = new Map<string, number>();
  readonly #services = new Map<string, string>();
  readonly #random: Random;
  readonly #log: (record: object) => void;
  #nextNumber = 1;

  constructor(
    trial: Trial,
    api: ApiClient,
    model: Model,
    { seed, log }: { readonly seed: number; readonly log: (record: object) => void },
  ) {
    this.#log = log;
    this.#trial = trial;
    this.#api = api;
    this.#model = model;
    this.#random = new Random(seed, 'churn');
  }

  async begin(): Promise<void> {
    for (const name of churnNamespaces) await this.#createNamespace(name);
    for (let i = 0; i < podsMax; i++) await this.#createPod();
  }

  async next(): Promise<void> {
    const { pods, policies } = this.#model.state;
    const kinds: readonly (readonly [weight: number, name: string, run: Operation])[] = [
      [30, 'pods relabelled', () => this.#relabelPod()],
      [pods.size > podsMax / 2 ? 8 : 0, 'pods deleted', () => this.#deletePod()],
      [pods.size < podsMax ? 16 : 0, 'pods created', () => this.#createPod()],
      [8, 'namespaces relabelled', () => this.#relabelNamespace()],
      [policies.size < policiesMax ? 20 : 0, 'policies created', () => this.#createPolicy()],
      [policies.size > 0 ? 18 : 0, 'policies changed', () => this.#changePolicy()],
      [policies.size > 0 ? 12 : 0, 'policies deleted', () => this.#deletePolicy()],
      [6, 'services', () => this.#changeServices()],
    ];
    let left = this.#draw(kinds.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, name, run] of kinds) {
      left -= weight;
      if (left >= 0) continue;
      await run();
      this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
      return;
    }
  }

  summary(): string {
    return [...this.#counts].map(([name, count]) => `${count} ${name}`).join(', ');
  }

  async #createNamespace(name: string): Promise<void> {
    const labels = { team: this.#random.pick(teams) };
    const namespaces = new Map(this.#model.state.namespaces).set(name, labels);
    const object = { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } };
    await this.#change({ namespaces }, { namespace: name, labels }, () =>
      this.#api.create('/api/v1/namespaces', object),
    );
  }

  async #relabelNamespace(): Promise<void> {
    const name = this.#random.pick(churnNamespaces);
    const labels = { team: this.#random.pick(teams) };
    const namespaces = new Map(this.#model.state.namespaces).set(name, labels);
    const path = `/api/v1/namespaces/${name}`;
    await this.#change({ namespaces }, { namespace: name, labels }, () =>
      this.#api.patch(path, { metadata: { labels } }),
    );
  }

  async #createPod(): Promise<void> {
    const pod: ModelPod = {
      name: `p${this.#nextNumber++}`,
      namespace: this.#random.pick(churnNamespaces),
      labels: this.#labels(),
    };
    const pods = new Map(this.#model.state.pods).set(pod.name, pod);
    const node = this.#random.pick(this.#trial.nodeNames);
    const options = { node, intervalMs: 500, targets: [`+udp:${worldApiAddress}:9000`] };
    const template = this.#trial.talkerTemplate('churn', options);
    const labels = { ...podLabel, ...pod.labels };
    const metadata = { name: pod.name, namespace: pod.namespace, labels };
    const object = { apiVersion: 'v1', kind: 'Pod', ...template, metadata };
    const path = `/api/v1/namespaces/${pod.namespace}/pods`;
    await this.#change({ pods }, { pod, node }, () => this.#api.create(path, object));
  }

  async #deletePod(): Promise<void> {
    const pod = this.#random.pick([...this.#model.state.pods.values()]);
    const pods = new Map(this.#model.state.pods);
    pods.delete(pod.name);
    const path = `/api/v1/namespaces/${pod.namespace}/pods/${pod.name}`;
    await this.#change({ pods }, { deleted: pod.name }, () => this.#api.remove(path));
  }

  async #relabelPod(): Promise<void> {
    const pod = this.#random.pick([...this.#model.state.pods.values()]);
    const labels = this.#labels();
    const pods = new Map(this.#model.state.pods).set(pod.name, { ...pod, labels });
    const path = `/api/v1/namespaces/${pod.namespace}/pods/${pod.name}`;
    const relabelled = { pod: pod.name, labels };
    await this.#change({ pods }, relabelled, () => this.#api.patch(path, { metadata: { labels } }));
  }

  async #createPolicy(): Promise<void> {
    const namespace = this.#random.pick(churnNamespaces);
    const policy = this.#drawPolicy(`policy-${this.#nextNumber++}`, namespace);
    const policies = new Map(this.#model.state.policies).set(policy.name, policy);
    await this.#change({ policies }, { policy }, () =>
      this.#api.create(policiesOf(namespace), policyObject(policy)),
    );
  }

  async #changePolicy(): Promise<void> {
    const { name, namespace } = this.#random.pick([...this.#model.state.policies.values()]);
    const policy = this.#drawPolicy(name, namespace);
    const policies = new Map(this.#model.state.policies).set(name, policy);
    const { spec } = policyObject(policy);
    // a merge patch merges objects: what the old one has and the new one has not goes away
    const change = {
      spec: {
        ...{ ingress: null, egress: null },
        ...spec,
        podSelector: { matchLabels: { app: null, tier: null, ...policy.subject } },
      },
    };
    await this.#change({ policies }, { policy }, () =>
      this.#api.patch(`${policiesOf(namespace)}/${name}`, change),
    );
  }

  async #deletePolicy(): Promise<void> {
    const { name, namespace } = this.#random.pick([...this.#model.state.policies.values()]);
    const policies = new Map(this.#model.state.policies);
    policies.delete(name);
    await this.#change({ policies }, { deleted: name }, () =>
      this.#api.remove(`${policiesOf(namespace)}/${name}`),
    );
  }

  async #changeServices(): Promise<void> {
    const [old] = this.#services.keys();
    if (old !== undefined && this.#services.size >= servicesMax) {
      await this.#api.remove(`/api/v1/namespaces/${this.#services.get(old)}/services/${old}`);
      this.#services.delete(old);
      return;
    }
    const name = `service-${this.#nextNumber++}`;
    const namespace = this.#random.pick(churnNamespaces);
    this.#services.set(name, namespace);
    await this.#api.create(`/api/v1/namespaces/${namespace}/services`, {
      ...{ apiVersion: 'v1', kind: 'Service', metadata: { name, namespace } },
      spec: { selector: this.#labels(), ports: [{ port: 7777, protocol: 'UDP' }] },
    });
  }

  #drawPolicy(name: string, namespace: string): ModelPolicy {
    const directions = this.#draw(3);
    const peers = (): readonly ModelPeer[] =>
      Array.from({ length: this.#draw(3) }, () => this.#drawPeer());
    const ingress = directions === 1 ? null : peers();
    const egress = directions === 0 ? null : peers();
    return { name, namespace, subject: this.#someLabels(), ingress, egress };
  }

  #drawPeer(): ModelPeer {
    const kind = this.#draw(3);
    if (kind === 0) return { pods: this.#someLabels() };
    const namespaces = this.#draw(2) === 0 ? {} : { team: this.#random.pick(teams) };
    return kind === 1 ? { namespaces } : { namespaces, pods: this.#someLabels() };
  }

  #labels(): Labels {
    return Object.fromEntries(
      Object.entries(values).map(([key, of]) => [key, this.#random.pick(of)]),
    );
  }

  #someLabels(): Labels {
    return Object.fromEntries(Object.entries(this.#labels()).filter(() => this.#draw(2) === 0));
  }

  /** `part` is logged with `what`, so that a fault can be told from its changes. */
  async #change(part: Partial<ModelState>, what: object, send: () => Promise<void>): Promise<void> {
    const sentMs = Date.now();
    await this.#model.change({ ...this.#model.state, ...part }, send);
    this.#log({ sentMs, takenMs: Date.now(), ...what });
  }

  /** A number below `below`. */
  #draw(below: number): number {
    return this.#random.between(0, below - 1);
  }
}

const policiesOf = (namespace: string): string =>
  `/apis/networking.k8s.io/v1/namespaces/${namespace}/networkpolicies`;

/** Pods hear and tell the collector whatever else the policy says: it is no part of the model. */
const collectorPeer = { ipBlock: { cidr: `${worldApiAddress}/32` } };

function policyObject({ name, namespace, subject, ingress, egress }: ModelPolicy): {
  readonly spec: object;
} {
  const peerObject = ({ namespaces, pods }: ModelPeer): object => ({
    ...(namespaces === undefined ? {} : { namespaceSelector: { matchLabels: namespaces } }),
    ...(pods === undefined ? {} : { podSelector: { matchLabels: pods } }),
  });
  const types = [...(ingress === null ? [] : ['Ingress']), ...(egress === null ? [] : ['Egress'])];
  const peersOf = (peers: readonly ModelPeer[]): readonly object[] => [
    collectorPeer,
    ...peers.map(peerObject),
  ];
  return {
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name, namespace } },
    spec: {
      podSelector: { matchLabels: subject },
      policyTypes: types,
      ...(ingress === null ? {} : { ingress: [{ from: peersOf(ingress) }] }),
      ...(egress === null ? {} : { egress: [{ to: peersOf(egress) }] }),
    },
  };
}
