// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A policy object but for its body. With any fault it stays a policy object: what cannot be
 * identified or has a field too many was meant to restrict pods, so its body is read for these
 * (`policy/parse/policy-hold.ts`). Labels, annotations and the rest of metadata are of no use here and not read.
 */

import { objectErrorsMax } from '../limits.ts';
import { isDnsLabel, isDnsSubdomain } from './names.ts';
import { isClusterwide, type PolicyKind, type PolicyObject } from './objects.ts';
import { type Fields, Issues, isFields, nameOf } from './shape.ts';

const apiVersionsOf: Readonly<Record<PolicyKind, readonly string[]>> = {
  CiliumNetworkPolicy: ['cilium.io/v2'],
  CiliumClusterwideNetworkPolicy: ['cilium.io/v2'],
  NetworkPolicy: ['networking.k8s.io/v1'],
  ClusterNetworkPolicy: ['policy.networking.k8s.io/v1beta1', 'policy.networking.k8s.io/v1alpha2'],
};
const ciliumKinds: readonly PolicyKind[] = [
  'CiliumNetworkPolicy',
  'CiliumClusterwideNetworkPolicy',
];
const commonFields: readonly string[] = ['apiVersion', 'kind', 'metadata', 'spec', 'status'];
const ciliumFields: readonly string[] = [...commonFields, 'specs'];
/** Fields that Kubernetes and its tools write there. Another field may be a misspelt namespace. */
const metadataFields: readonly string[] = [
  ...['name', 'namespace', 'labels', 'annotations', 'uid', 'generateName', 'generation'],
  ...['resourceVersion', 'creationTimestamp', 'deletionTimestamp', 'deletionGracePeriodSeconds'],
  ...['ownerReferences', 'finalizers', 'managedFields', 'selfLink', 'clusterName'],
];
/** Fields of a spec: beside it, they are a matter of indentation. */
export const specFields: readonly string[] = [
  'endpointSelector',
  'nodeSelector',
  'ingress',
  'ingressDeny',
  'egress',
  'egressDeny',
  'enableDefaultDeny',
  'labels',
  'description',
  'log',
];

/** Fields of the spec of a NetworkPolicy. */
export const networkSpecFields: readonly string[] = [
  'podSelector',
  'policyTypes',
  'ingress',
  'egress',
];

/** Fields of the spec of a ClusterNetworkPolicy. */
export const tierSpecFields: readonly string[] = [
  ...['tier', 'priority', 'subject', 'ingress', 'egress'],
];

/** Null for an object that is no policy of ours. `damage`: as of `PolicyObject`. */
export function parsePolicyObject(fields: Fields, damage: string | null): PolicyObject | null {
  const kind = kindOf(fields);
  if (kind === null) return null;
  const issues = new Issues(objectErrorsMax);
  checkType(fields, kind, issues);
  const metadata = fields['metadata'];
  if (!isFields(metadata)) {
    issues.add('metadata', `is ${nameOf(metadata)}, but must be a mapping with name and namespace`);
  }
  const { name, namespace } = isFields(metadata) ? metadata : {};
  if (isFields(metadata) && (typeof name !== 'string' || name === '')) {
    const what = name === undefined || name === '' ? 'missing or empty' : nameOf(name);
    issues.add(
      'metadata.name',
      `is ${what}, but must be a text: give it, in quotes if it is a number`,
    );
  }
  if (typeof name === 'string' && name !== '' && !isDnsSubdomain(name)) {
    const message = `${JSON.stringify(name)} is no name of Kubernetes: write lower-case letters, digits, - and .`;
    issues.add('metadata.name', message);
  }
  const isOfCluster = isClusterwide(kind);
  const isTold = isOfCluster || checkNamespace(namespace, issues);
  const unknown = isFields(metadata)
    ? Object.keys(metadata).filter((field) => !metadataFields.includes(field))
    : [];
  for (const field of unknown) {
    const expected = isOfCluster ? 'name' : 'name and namespace';
    issues.add(`metadata.${field}`, `is no known field here: give ${expected}, or remove it`);
  }
  // No namespace is "default", unless it may be what is lost or misspelt.
  const isWhole = damage === null && isFields(metadata) && unknown.length === 0;
  const isPlaced = isTold && (isOfCluster || isWhole || !isAbsent(namespace));
  const strays = straysOf(fields, kind, issues);
  return {
    kind,
    // kubectl puts an object without a namespace into "default"; files are read the same way.
    namespace: isOfCluster || !isPlaced ? '' : String(namespace ?? '') || 'default',
    name: typeof name === 'string' ? name : '',
    isPlaced,
    spec: fields['spec'],
    specs: fields['specs'],
    strays,
    faults: issues.list(),
    damage,
  };
}

/** False with an issue: none can be called so. */
function checkNamespace(namespace: unknown, issues: Issues): boolean {
  if (isAbsent(namespace)) return true;
  const isText = typeof namespace === 'string';
  if (isText && isDnsLabel(namespace)) return true;
  const message = isText
    ? `${JSON.stringify(namespace)} is no name of a namespace: write lower-case letters, digits and -`
    : `is ${nameOf(namespace)}, but must be a text: put it in quotes`;
  issues.add('metadata.namespace', message);
  return false;
}

/** The kind that is meant: one of ours in any version and letters, or the one that its body shows. */
function kindOf(fields: Fields): PolicyKind | null {
  const { kind, apiVersion } = fields;
  const text = typeof kind === 'string' ? kind.toLowerCase() : '';
  const named = ciliumKinds.find((each) => each.toLowerCase() === text);
  if (named !== undefined) return named;
  const isNetworkPolicy = text === 'networkpolicy';
  if (isNetworkPolicy && isKubernetesGroup(apiVersion)) return 'NetworkPolicy';
  if (selectsPods(fields) && (isNetworkPolicy || isOfNetworking(apiVersion)))
    return 'NetworkPolicy';
  const isUntyped = typeof kind !== 'string' || kind === '';
  if (isClusterNetworkPolicy(fields, text, isUntyped)) return 'ClusterNetworkPolicy';
  const isCilium = typeof apiVersion === 'string' && apiVersion.startsWith('cilium.io/');
  if (!(isUntyped || isCilium) || !selectsEndpoints(fields)) return null;
  const { metadata } = fields;
  const hasNamespace = isFields(metadata) && !isAbsent(metadata['namespace']);
  return hasNamespace ? 'CiliumNetworkPolicy' : 'CiliumClusterwideNetworkPolicy';
}

/** Antrea and AWS have a ClusterNetworkPolicy too. Of the group's kinds only this one has a tier. */
function isClusterNetworkPolicy(
  { apiVersion, spec }: Fields,
  kind: string,
  isUntyped: boolean,
): boolean {
  const hasTier = isFields(spec) && Object.hasOwn(spec, 'tier') && Object.hasOwn(spec, 'subject');
  const isGroupless = typeof apiVersion !== 'string' || !apiVersion.includes('/');
  if (!isGroupless) {
    const isOfGroup = apiVersion.startsWith('policy.networking.k8s.io/');
    return isOfGroup && (kind === 'clusternetworkpolicy' || hasTier);
  }
  return kind === 'clusternetworkpolicy' || (isUntyped && hasTier);
}

/** A NetworkPolicy under another kind, or of another group: no other kind of its group has pods so, and no other NetworkPolicy. */
function selectsPods({ spec }: Fields): boolean {
  return isFields(spec) && Object.hasOwn(spec, 'podSelector');
}

function isOfNetworking(apiVersion: unknown): boolean {
  return typeof apiVersion === 'string' && apiVersion.startsWith('networking.k8s.io/');
}

/** Calico and Antrea have a NetworkPolicy too. An object without a group is taken for the one of Kubernetes. */
function isKubernetesGroup(apiVersion: unknown): boolean {
  if (typeof apiVersion !== 'string' || !apiVersion.includes('/')) return true;
  return apiVersion.startsWith('networking.k8s.io/') || apiVersion.startsWith('extensions/');
}

function selectsEndpoints({ spec, specs }: Fields): boolean {
  const bodies: readonly unknown[] = [spec, ...(Array.isArray(specs) ? specs : [])];
  return bodies.some((body) => isFields(body) && Object.hasOwn(body, 'endpointSelector'));
}

function checkType({ kind, apiVersion }: Fields, meant: PolicyKind, issues: Issues): void {
  const versions = apiVersionsOf[meant];
  if (typeof apiVersion !== 'string' || !versions.includes(apiVersion)) {
    issues.add('apiVersion', `is ${nameOf(apiVersion)}, but must be ${versions.join(' or ')}`);
  }
  if (kind !== meant) {
    const kinds = ciliumKinds.includes(meant) ? ciliumKinds : [meant];
    issues.add('kind', `is ${nameOf(kind)}, but must be ${kinds.join(' or ')}`);
  }
}

function straysOf(fields: Fields, kind: PolicyKind, issues: Issues): Fields {
  const objectFields = ciliumKinds.includes(kind) ? ciliumFields : commonFields;
  const ofSpec = specFieldsOf(kind);
  const strays = Object.keys(fields).filter((field) => !objectFields.includes(field));
  for (const field of strays) {
    const message = ofSpec.includes(field)
      ? 'stands beside spec, where it has no effect: indent it under spec'
      : `is no known field here: expected ${objectFields.join(', ')}`;
    issues.add(field, message);
  }
  return Object.fromEntries(strays.map((field) => [field, fields[field]]));
}

function specFieldsOf(kind: PolicyKind): readonly string[] {
  switch (kind) {
    case 'NetworkPolicy':
      return networkSpecFields;
    case 'ClusterNetworkPolicy':
      return tierSpecFields;
    default:
      return specFields;
  }
}

function isAbsent(value: unknown): boolean {
  return value === undefined || value === null || value === '';
}
