// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Identity labels: what policy sees of a peer. For a pod those are its own labels, less the ones that
 * Cilium's default filter drops because they differ from pod to pod, plus the namespace, its labels,
 * the service account and the cluster. A pod cannot set the latter itself (GO-2023-2078).
 *
 * Source: Cilium pkg/labelsfilter/filter.go, pkg/k8s/apis/cilium.io/const.go.
 */

import type { Namespace, Pod } from '../../k8s/objects.ts';

export interface Identity {
  /** Labels of source k8s, by name. */
  readonly labels: ReadonlyMap<string, string>;
  /** Labels of source reserved; their values are empty. */
  readonly reserved: ReadonlySet<string>;
  /** Labels of a pod that it may have although they are not in `labels`: those of its namespace, or all. Undefined: none. */
  readonly unknown?: 'namespace' | 'all';
}

/** Facts that policies in force ask of pods beyond their identity labels. */
export interface AskedOfPods {
  /** Names of labels. */
  readonly labels: ReadonlySet<string>;
  /** Names of labels of their namespaces. */
  readonly namespaceLabels: ReadonlySet<string>;
  /** By protocol and name, `TCP/http`, and by namespace: the numbers that its pods have for it. */
  readonly numbers: ReadonlyMap<string, ReadonlyMap<string, ReadonlySet<number>>>;
  /** Identities of those namespaces, as selectors see them. */
  readonly namespaces: ReadonlyMap<string, Identity>;
}

export const podNamespaceLabel = 'io.kubernetes.pod.namespace';
export const namespaceLabelsPrefix = 'io.cilium.k8s.namespace.labels.';
const metadataNameLabel = `${namespaceLabelsPrefix}kubernetes.io/metadata.name`;
export const serviceAccountLabel = 'io.cilium.k8s.policy.serviceaccount';
export const clusterLabel = 'io.cilium.k8s.policy.cluster';

/** Labels that are no part of an identity, where a NetworkPolicy names them; no label of a pod has a colon. */
export const podLabelPrefix = 'pod:';
/** Labels of a pod's namespace, likewise. */
export const namespaceLabelPrefix = 'namespace:';
/** Named ports, `port:TCP/http`, where a NetworkPolicy names them: the value is the number. */
export const portLabelPrefix = 'port:';

const ciliumPrefix = 'io.cilium.k8s.';
const includedPrefixes = [
  podNamespaceLabel,
  'io.cilium.k8s.namespace.labels',
  'app.kubernetes.io',
  clusterLabel,
];
const ignoredPrefixes = [
  'io.kubernetes',
  'kubernetes.io',
  'statefulset.kubernetes.io/pod-name',
  'apps.kubernetes.io/pod-index',
  'batch.kubernetes.io/job-completion-index',
  'batch.kubernetes.io/controller-uid',
  'k8s.io',
  'pod-template-generation',
  'pod-template-hash',
  'controller-revision-hash',
  'controller-uid',
  'annotation',
  'etcd_node',
  'topology.kubernetes.io',
];
const betaLabels = 'beta.kubernetes.io';
const noReserved: ReadonlySet<string> = new Set();
const noLabels: ReadonlyMap<string, string> = new Map();

/** The identity of a pod. `namespace` undefined: its object is not known (yet), so neither are its labels. */
export function podIdentity(
  pod: Pod,
  namespace: Namespace | undefined,
  clusterName: string,
  asked?: AskedOfPods,
): Identity {
  const labels = new Map<string, string>();
  for (const [name, value] of pod.labels) {
    if (!name.startsWith(ciliumPrefix) && isIdentityLabel(name)) labels.set(name, value);
  }
  addNamespaceLabels(labels, pod.namespace, namespace, asked?.namespaceLabels);
  labels.set(serviceAccountLabel, pod.serviceAccount);
  labels.set(clusterLabel, clusterName);
  // By what the pod has: what policies of a cluster ask for may be much more.
  for (const [name, value] of pod.labels) {
    if (asked?.labels.has(name) === true) labels.set(podLabelPrefix + name, value);
  }
  for (const [name, number] of pod.namedPorts ?? []) {
    if (asked?.numbers.has(name) === true) labels.set(portLabelPrefix + name, String(number));
  }
  return { labels, reserved: noReserved, ...unknownOf(namespace) };
}

/** The identity of a pod whose object could not be read whole. */
export const partialIdentity: Identity = {
  labels: noLabels,
  reserved: noReserved,
  unknown: 'all',
};

/** The part of an identity that every pod of the namespace with these labels has. */
export function impliedIdentity(namespace: string, own: ReadonlyMap<string, string>): Identity {
  const labels = new Map([...own].filter(([name]) => isOwnLabel(name)));
  addNamespaceLabels(labels, namespace, undefined, undefined);
  return { labels, reserved: noReserved };
}

/** The part of an identity that all pods of a namespace have; `asked`: as of `AskedOfPods`. */
export function namespaceIdentity(
  name: string,
  namespace: Namespace | undefined,
  asked: ReadonlySet<string>,
): Identity {
  const labels = new Map<string, string>();
  addNamespaceLabels(labels, name, namespace, asked);
  return { labels, reserved: noReserved, ...unknownOf(namespace) };
}

function unknownOf(namespace: Namespace | undefined): Pick<Identity, 'unknown'> {
  return namespace === undefined ? { unknown: 'namespace' } : {};
}

/** Whether it is not known that the identity lacks the label of this name, which is not in `labels`. */
export function mayHave({ unknown }: Identity, name: string): boolean {
  return unknown === 'all' || (unknown === 'namespace' && isLabelOfNamespace(name));
}

/** Whether it is a label of the Namespace object, whose value the pod does not have. */
export function isLabelOfNamespace(name: string): boolean {
  return (
    name !== metadataNameLabel &&
    (name.startsWith(namespaceLabelsPrefix) || name.startsWith(namespaceLabelPrefix))
  );
}

/** Whether a label of an identity is one of those of `namespaceIdentity`. */
export function isNamespaceLabel(name: string): boolean {
  return (
    name === podNamespaceLabel ||
    name.startsWith(namespaceLabelsPrefix) ||
    name.startsWith(namespaceLabelPrefix)
  );
}

function addNamespaceLabels(
  labels: Map<string, string>,
  name: string,
  namespace: Namespace | undefined,
  asked: ReadonlySet<string> | undefined,
): void {
  for (const [label, value] of namespace?.labels ?? []) {
    const full = namespaceLabelsPrefix + label;
    if (isIdentityLabel(full)) labels.set(full, value);
    if (asked?.has(label) === true) labels.set(namespaceLabelPrefix + label, value);
  }
  // The API server sets this one on every namespace; objects in files may lack it.
  labels.set(metadataNameLabel, name);
  labels.set(podNamespaceLabel, name);
}

/** Whether an identity has the label of this name as the pod has it: not left out, nor one of those that are added. */
export function isOwnLabel(name: string): boolean {
  return isIdentityLabel(name) && !name.startsWith(ciliumPrefix) && name !== podNamespaceLabel;
}

/** The identity of what is no pod. */
export function reservedIdentity(names: Iterable<string>): Identity {
  return { labels: noLabels, reserved: new Set(names) };
}

/** Canonical text of an identity: equal texts are matched by the same selectors. */
export function identityKey(identity: Identity): string {
  const labels = [...identity.labels].map(([name, value]) => `${name}=${value}`).sort();
  return JSON.stringify([labels, [...identity.reserved].sort(), identity.unknown ?? '']);
}

/**
 * Cilium's default label filter. Of the ignoring expressions that match the shortest match counts, of
 * the including ones the longest, and the label stays if nothing ignores it or the including match is
 * longer.
 */
export function isIdentityLabel(name: string): boolean {
  let included = 0;
  for (const prefix of includedPrefixes) {
    if (name.startsWith(prefix)) included = Math.max(included, prefix.length);
  }
  let ignored = 0;
  for (const prefix of ignoredPrefixes) {
    if (!name.startsWith(prefix)) continue;
    const length = prefix === 'annotation' ? name.length : prefix.length;
    if (ignored === 0 || length < ignored) ignored = length;
  }
  const beta = name.lastIndexOf(betaLabels);
  if (beta >= 0 && (ignored === 0 || beta + betaLabels.length < ignored)) {
    ignored = beta + betaLabels.length;
  }
  return ignored === 0 || included > ignored;
}
