// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Selectors of Kubernetes' own policies. Labels that Cilium's default filter drops from identities count here: a
 * requirement for one is for `pod:NAME` or `namespace:NAME`, which no label of a pod can be called.
 */

import { at, type Fields, isFields, readFields, withoutNulls } from '../../k8s/shape.ts';
import {
  isIdentityLabel,
  isOwnLabel,
  namespaceLabelPrefix,
  namespaceLabelsPrefix,
  podLabelPrefix,
  podNamespaceLabel,
} from '../model/labels.ts';
import { type LabelRequirement, type LabelSelector, makeSelector } from '../model/selector.ts';
import { ParseContext } from './parse-context.ts';
import {
  parseKubernetesSelector,
  type SalvagedSubject,
  salvageRequirements,
} from './parse-selector.ts';

/** podSelector of a policy: pods of its namespace. */
export function parsePodSubject(
  value: unknown,
  path: string,
  context: ParseContext,
): LabelSelector | null {
  const requirements = podRequirements(value, path, context);
  return requirements === null
    ? null
    : makeSelector([...requirements, namespaceIs(context.namespace)]);
}

/** Pods of the policy's namespace, or of the namespaces that are selected. */
export function parsePodPeer(
  { podSelector, namespaceSelector }: Fields,
  path: string,
  context: ParseContext,
): LabelSelector | null {
  const pods =
    podSelector === undefined ? [] : podRequirements(podSelector, at(path, 'podSelector'), context);
  const namespaces =
    namespaceSelector === undefined
      ? [namespaceIs(context.namespace)]
      : namespaceRequirements(namespaceSelector, at(path, 'namespaceSelector'), context);
  return pods === null || namespaces === null ? null : makeSelector([...pods, ...namespaces]);
}

/** `namespaces` of a ClusterNetworkPolicy: all pods of these. */
export function parseNamespaces(
  value: unknown,
  path: string,
  context: ParseContext,
): LabelSelector | null {
  const requirements = namespaceRequirements(value, path, context);
  return requirements === null ? null : makeSelector(requirements);
}

/** Subject of an invalid ClusterNetworkPolicy, `namespaces` or `pods` of it, or what can be read of it. */
export function salvageTierSubject(fields: Fields): SalvagedSubject {
  const context = new ParseContext('');
  const { namespaces, pods } = withoutNulls(fields, subjectFields);
  const given = isFields(pods) ? withoutNulls(pods, podsFields) : {};
  const { namespaceSelector = isFields(pods) ? {} : undefined, podSelector } = given;
  const ofNamespaces = pods === undefined ? namespaces : namespaceSelector;
  const isOne = (pods === undefined) !== (namespaces === undefined);
  const whole = namespaceRequirements(ofNamespaces, '', context);
  const wholePods = pods === undefined ? [] : podRequirements(podSelector, '', context);
  const known = Object.keys(given).every((key) => podsFields.includes(key));
  const readable = salvageRequirements(ofNamespaces)
    .filter(isOfKubernetes)
    .map((each) => ({ ...each, name: namespaceLabelOf(each.name) }));
  const readablePods = salvageRequirements(podSelector).filter(isOfKubernetes).map(ofPods);
  const isWhole = isOne && known && whole !== null && wholePods !== null;
  return {
    subject: makeSelector(isOne ? [...(whole ?? readable), ...(wholePods ?? readablePods)] : []),
    isWhole,
  };
}

/** Fields of a subject. */
export const subjectFields: readonly string[] = ['namespaces', 'pods'];

/** Fields of `pods`. */
export const podsFields: readonly string[] = ['namespaceSelector', 'podSelector'];

/** `pods` of a subject or peer. Without a namespaceSelector pods of every namespace: only the other one is required by the API. */
export function parsePods(
  value: unknown,
  path: string,
  context: ParseContext,
): LabelSelector | null {
  const read = readFields(value, path, context.errors);
  if (read === null) return null;
  const fields = context.presentFields(read, path, podsFields, {
    matchLabels: 'put it under podSelector or namespaceSelector',
    matchExpressions: 'put it under podSelector or namespaceSelector',
  });
  const { podSelector, namespaceSelector = {} } = fields;
  if (podSelector === undefined) {
    context.error(at(path, 'podSelector'), 'is missing: {} selects all');
    return null;
  }
  return parsePodPeer({ podSelector, namespaceSelector }, path, context);
}

/** podSelector of an invalid policy, or what can be read of it: no less than it selects. */
export function salvagePodSubject(value: unknown, namespace: string): SalvagedSubject {
  const context = new ParseContext(namespace);
  const whole = podRequirements(value, '', context);
  const own = namespace === '' ? [] : [namespaceIs(namespace)];
  const readable = whole ?? salvageRequirements(value).filter(isOfKubernetes).map(ofPods);
  return { subject: makeSelector([...readable, ...own]), isWhole: whole !== null };
}

function podRequirements(
  value: unknown,
  path: string,
  context: ParseContext,
): readonly LabelRequirement[] | null {
  return parseKubernetesSelector(value, path, context)?.map(ofPods) ?? null;
}

function ofPods(requirement: LabelRequirement): LabelRequirement {
  const { name } = requirement;
  return isOwnLabel(name) ? requirement : { ...requirement, name: podLabelPrefix + name };
}

function isOfKubernetes({ source }: LabelRequirement): boolean {
  return source === 'k8s';
}

/** NotIn and DoesNotExist hold for what has no labels, such as the world, so a further requirement selects pods alone. */
function namespaceRequirements(
  value: unknown,
  path: string,
  context: ParseContext,
): readonly LabelRequirement[] | null {
  if (typeof value === 'string') {
    const fix = `{matchLabels: {kubernetes.io/metadata.name: ${value}}}`;
    context.error(
      path,
      `is the text ${JSON.stringify(value)}, but must be a selector: write ${fix}`,
    );
    return null;
  }
  const requirements = parseKubernetesSelector(value, path, context);
  const isPod: LabelRequirement = {
    source: 'k8s',
    name: podNamespaceLabel,
    operator: 'Exists',
    values: [],
  };
  return requirements === null
    ? null
    : [...requirements.map((each) => ({ ...each, name: namespaceLabelOf(each.name) })), isPod];
}

/** As identities have the label, or as they have it when it is asked for. */
function namespaceLabelOf(name: string): string {
  const full = namespaceLabelsPrefix + name;
  return isIdentityLabel(full) ? full : namespaceLabelPrefix + name;
}

function namespaceIs(namespace: string): LabelRequirement {
  return { source: 'k8s', name: podNamespaceLabel, operator: 'In', values: [namespace] };
}
