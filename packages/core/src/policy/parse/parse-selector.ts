// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Label selectors of Cilium policies, with Cilium's defaulting. A policy of a namespace selects pods of
 * that namespace only as its subject, and as peers unless the selector names a namespace by name or by
 * labels. Peers must be pods, also where a selector only says what they lack: `NotIn` and `DoesNotExist`
 * hold for nodes and the world, too, which have no labels. A selector with a `reserved:` key is left alone.
 *
 * Source: Cilium pkg/k8s/apis/cilium.io/utils/utils.go (getEndpointSelector, ParseToCiliumRule; its label
 * of the cluster is what keeps peers to pods there, policy-default-local-cluster).
 */

import { isLabelKey, isLabelValue } from '../../k8s/names.ts';
import {
  at,
  isFields,
  readFields,
  readList,
  readRequiredText,
  readTextMap,
  readTexts,
  withoutNulls,
} from '../../k8s/shape.ts';
import { selectorItemsMax } from '../../limits.ts';
import { isIdentityLabel, namespaceLabelsPrefix, podNamespaceLabel } from '../model/labels.ts';
import {
  type LabelOperator,
  type LabelRequirement,
  type LabelSelector,
  type LabelSource,
  makeSelector,
} from '../model/selector.ts';
import { ParseContext } from './parse-context.ts';

const selectorFields: readonly string[] = ['matchLabels', 'matchExpressions'];
const expressionFields: readonly string[] = ['key', 'operator', 'values'];
type Advice = Readonly<Record<string, string>>;
/** Selectors of NetworkPolicy in one of Cilium, with the field to write here. */
const foreignSelectors: Advice = {
  podSelector: 'write its matchLabels here',
  namespaceSelector:
    'write the label k8s:io.kubernetes.pod.namespace for a namespace by name, or k8s:io.cilium.k8s.namespace.labels.KEY by a label of it',
};
const noSameLabels = 'the API has it no more: write a policy for each value of the label';
/** Advice for fields that a label selector of Kubernetes does not have: its parent's, and those of earlier versions of the API. */
const foreignFields: Advice = {
  podSelector: 'this is a selector itself: write its matchLabels here, or move it beside',
  namespaceSelector: 'this is a selector itself: write its matchLabels here, or move it beside',
  sameLabels: noSameLabels,
  notSameLabels: noSameLabels,
};
const operators: readonly LabelOperator[] = ['In', 'NotIn', 'Exists', 'DoesNotExist'];
const labelName = /^[A-Za-z0-9]([-A-Za-z0-9_./]{0,314}[A-Za-z0-9])?$/;
/** Reserved labels that something here can carry; the others belong to Cilium's own endpoints. */
const reservedNames: readonly string[] = ['host', 'remote-node', 'kube-apiserver', 'world', 'init'];

/** endpointSelector: which pods of this node the policy is for. Null with an error if unreadable. */
export function parseSubject(
  value: unknown,
  path: string,
  context: ParseContext,
): LabelSelector | null {
  const requirements = parseBounded(value, path, context);
  if (requirements === null) return null;
  if (context.namespace === '') return makeSelector(requirements);
  const kept = requirements.filter((requirement) => {
    const names = isPodNamespace(requirement) && requirement.operator === 'In';
    if (names && !requirement.values.includes(context.namespace)) {
      context.warn(path, `selects only pods of its own namespace ${context.namespace}`);
    }
    return !names;
  });
  return makeSelector([...kept, namespaceIs(context.namespace)]);
}

/** One item of toEndpoints or fromEndpoints. Null with an error if unreadable. */
export function parsePeerSelector(
  value: unknown,
  path: string,
  context: ParseContext,
): LabelSelector | null {
  const requirements = parseBounded(value, path, context);
  if (requirements === null) return null;
  const isReserved = requirements.some(({ source }) => source === 'reserved');
  if (isReserved) return makeSelector(requirements);
  const namesNamespace =
    requirements.some(isPodNamespace) ||
    (context.namespace !== '' &&
      requirements.some(({ name }) => name.startsWith(namespaceLabelsPrefix)));
  if (!namesNamespace && context.namespace !== '') {
    return makeSelector([...requirements, namespaceIs(context.namespace)]);
  }
  if (namesNamespace && requirements.some(holdsForPodsOnly)) return makeSelector(requirements);
  return makeSelector([...requirements, isPod]);
}

/** A LabelSelector of Kubernetes, with its labels as they are written. Null with an error if unreadable. */
export function parseKubernetesSelector(
  value: unknown,
  path: string,
  context: ParseContext,
): readonly LabelRequirement[] | null {
  // Warnings about labels that are no part of an identity concern Cilium's kinds alone.
  const own = new ParseContext(context.namespace);
  const requirements = parseRequirements(selectorWithoutNulls(value), path, own, foreignFields);
  for (const { path: at_, message } of own.errors.list()) context.error(at_, message);
  if (requirements === null) return null;
  const keys = keysOf(value);
  if (keys.some((key) => key.includes(':'))) {
    context.error(path, 'a label of Kubernetes has no source before its name: remove k8s: or any:');
    return null;
  }
  const bad = keys.find((key) => !isLabelKey(key));
  if (bad !== undefined) context.error(path, `${JSON.stringify(bad)} is no label key: ${keyForm}`);
  return bad === undefined && isBounded(requirements, path, context) ? requirements : null;
}

const keyForm =
  'write name or domain/name, the name of at most 63 letters, digits, - _ and ., the domain in lower case';

/** Values of labels stay: `app:` with nothing behind it is a label that was forgotten. */
function selectorWithoutNulls(selector: unknown): unknown {
  if (!isFields(selector)) return selector;
  const present = withoutNulls(selector, selectorFields);
  const { matchExpressions } = present;
  if (!Array.isArray(matchExpressions)) return present;
  const expressions = (matchExpressions as readonly unknown[]).map((each) =>
    isFields(each) ? withoutNulls(each, expressionFields) : each,
  );
  return { ...present, matchExpressions: expressions };
}

function keysOf(selector: unknown): readonly string[] {
  const { matchLabels, matchExpressions } = isFields(selector) ? selector : {};
  const expressions = Array.isArray(matchExpressions)
    ? (matchExpressions as readonly unknown[])
    : [];
  return [
    ...Object.keys(isFields(matchLabels) ? matchLabels : {}),
    ...expressions.map((each) => (isFields(each) ? String(each['key']) : '')),
  ];
}

const isPod: LabelRequirement = {
  source: 'k8s',
  name: podNamespaceLabel,
  operator: 'Exists',
  values: [],
};

/** Only pods have labels of Kubernetes; `any:host` may be a node. */
function holdsForPodsOnly(requirement: LabelRequirement): boolean {
  const { source, operator } = requirement;
  const isPositive = operator === 'In' || operator === 'Exists';
  return isPositive && (source === 'k8s' || isPodNamespace(requirement));
}

function namespaceIs(namespace: string): LabelRequirement {
  return { source: 'k8s', name: podNamespaceLabel, operator: 'In', values: [namespace] };
}

function isPodNamespace({ source, name }: LabelRequirement): boolean {
  return source !== 'reserved' && name === podNamespaceLabel;
}

/** Each pod is compared with each requirement: an object may have so many. */
function parseBounded(
  value: unknown,
  path: string,
  context: ParseContext,
): readonly LabelRequirement[] | null {
  const requirements = parseRequirements(value, path, context, foreignSelectors);
  return requirements !== null && isBounded(requirements, path, context) ? requirements : null;
}

function isBounded(
  requirements: readonly LabelRequirement[],
  path: string,
  context: ParseContext,
): boolean {
  const values = requirements.reduce((sum, each) => sum + each.values.length, 0);
  return context.takeSelector(requirements.length + values, path);
}

function parseRequirements(
  value: unknown,
  path: string,
  context: ParseContext,
  foreign: Advice,
): LabelRequirement[] | null {
  const before = context.errors.count;
  const fields = readFields(value, path, context.errors);
  if (fields === null) return null;
  const texts = Object.entries(fields).filter(([, label]) => typeof label === 'string');
  const advice = texts.map(([key]) => [key, 'put it under matchLabels'] as const);
  context.checkFields(fields, path, selectorFields, {
    ...foreign,
    ...Object.fromEntries(advice),
  });
  const requirements: LabelRequirement[] = [];
  const labels = fields['matchLabels'] === null ? undefined : fields;
  const matchLabels = labels && readTextMap(labels, 'matchLabels', path, context.errors);
  for (const [key, labelText] of matchLabels ?? []) {
    const labelPath = `${path}.matchLabels[${JSON.stringify(key)}]`;
    const requirement = makeRequirement(key, 'In', [labelText], labelPath, context);
    if (requirement !== null) requirements.push(requirement);
  }
  const expressions =
    fields['matchExpressions'] === null
      ? []
      : readList(fields, 'matchExpressions', path, context.errors);
  for (const [index, expression] of expressions.entries()) {
    const expressionPath = `${path}.matchExpressions[${index}]`;
    const requirement = parseExpression(expression, expressionPath, context);
    if (requirement !== null) requirements.push(requirement);
  }
  return context.errors.count === before ? requirements : null;
}

function parseExpression(
  value: unknown,
  path: string,
  context: ParseContext,
): LabelRequirement | null {
  const fields = readFields(value, path, context.errors);
  if (fields === null) return null;
  context.checkFields(fields, path, expressionFields);
  const key = readRequiredText(fields, 'key', path, context.errors);
  const operator = operators.find((name) => name === fields['operator']);
  if (operator === undefined) {
    context.error(at(path, 'operator'), `must be one of ${operators.join(', ')}`);
    return null;
  }
  const { values: given } = fields;
  const values = given === null ? [] : readTexts(fields, 'values', path, context.errors);
  // Said already.
  if (given !== undefined && given !== null && !Array.isArray(given)) return null;
  const needsValues = operator === 'In' || operator === 'NotIn';
  if (needsValues !== values.length > 0) {
    const must = needsValues ? 'must name at least one value' : 'must be absent';
    context.error(at(path, 'values'), `${must} for operator ${operator}`);
    return null;
  }
  return key === '' ? null : makeRequirement(key, operator, values, path, context);
}

function makeRequirement(
  key: string,
  operator: LabelOperator,
  values: readonly string[],
  path: string,
  context: ParseContext,
): LabelRequirement | null {
  const colon = key.indexOf(':');
  const sourceText = colon < 0 ? 'k8s' : key.slice(0, colon);
  const name = key.slice(colon + 1);
  const source = labelSource(sourceText);
  if (source === null) {
    context.error(path, `label source "${sourceText}:" is not supported: use k8s: or any:`);
    return null;
  }
  if (!labelName.test(name)) {
    context.error(path, `${JSON.stringify(key)} is no label key`);
    return null;
  }
  const bad = values.find((value) => !isLabelValue(value));
  if (bad !== undefined) {
    const fix = bad === '*' ? ': operator Exists of matchExpressions is any value' : '';
    context.error(path, `${JSON.stringify(bad)} is no label value${fix}`);
    return null;
  }
  if (source === 'reserved' && !reservedNames.includes(name)) {
    context.error(path, `reserved:${name} is not supported: use toEntities or fromEntities`);
    return null;
  }
  if (source !== 'reserved' && !isIdentityLabel(name)) {
    const isOfNamespace = /namespace|metadata\.name$/i.test(name);
    const fix = isOfNamespace ? `: for a namespace by its name write k8s:${podNamespaceLabel}` : '';
    context.warn(
      path,
      `label ${name} is no part of identity, as in Cilium, so no pod has it here${fix}`,
    );
  }
  return { source, name, operator, values };
}

function labelSource(text: string): LabelSource | null {
  return text === 'k8s' || text === 'any' || text === 'reserved' ? text : null;
}

/** A selector that selects no less than what was written, and whether it is exactly that. */
export interface SalvagedSubject {
  readonly subject: LabelSelector;
  readonly isWhole: boolean;
}

/**
 * The endpointSelector of an invalid object, or what can be read of it: all requirements must hold, so
 * without those that cannot be read it selects the same pods and more.
 */
export function salvageSubject(value: unknown, namespace: string): SalvagedSubject {
  const context = new ParseContext(namespace);
  const whole = parseSubject(value, '', context);
  if (whole !== null) return { subject: whole, isWhole: true };
  const requirements = salvageRequirements(value);
  const isOwn = (requirement: LabelRequirement): boolean =>
    isPodNamespace(requirement) && requirement.operator === 'In';
  const kept = namespace === '' ? requirements : requirements.filter((each) => !isOwn(each));
  const own = namespace === '' ? [] : [namespaceIs(namespace)];
  return { subject: makeSelector([...kept, ...own]), isWhole: false };
}

/** The readable requirements of a selector. */
export function salvageRequirements(selector: unknown): readonly LabelRequirement[] {
  const { matchLabels, matchExpressions } = isFields(selector) ? selector : {};
  const requirements: LabelRequirement[] = [];
  for (const [key, text] of Object.entries(isFields(matchLabels) ? matchLabels : {})) {
    const values = typeof text === 'string' ? [text] : [];
    requirements.push(...salvageRequirement(key, 'In', values));
  }
  for (const expression of Array.isArray(matchExpressions) ? matchExpressions : []) {
    if (!isFields(expression) || typeof expression['key'] !== 'string') continue;
    const { key, operator, values } = expression;
    const texts = Array.isArray(values) ? values.filter((each) => typeof each === 'string') : [];
    const isComplete = Array.isArray(values)
      ? texts.length === values.length
      : values === undefined;
    const known = operators.find((name) => name === operator);
    if (known !== undefined)
      requirements.push(...salvageRequirement(key, known, isComplete ? texts : []));
  }
  return requirements.slice(0, selectorItemsMax);
}

/** The requirement as far as it is readable, or a wider one; none if no part of it can be used. */
function salvageRequirement(
  key: string,
  operator: LabelOperator,
  values: readonly string[],
): readonly LabelRequirement[] {
  const isPositive = operator === 'In' || operator === 'Exists';
  if (key.startsWith('reserved:')) {
    // What Cilium's own endpoints have, and no pod.
    const name = key.slice('reserved:'.length);
    return isPositive ? [{ source: 'reserved', name, operator: 'Exists', values: [] }] : [];
  }
  const needsValues = operator === 'In' || operator === 'NotIn';
  const whole = makeRequirement(key, operator, values, '', new ParseContext(''));
  if (whole !== null && needsValues === values.length > 0) return [whole];
  const exists = makeRequirement(key, 'Exists', [], '', new ParseContext(''));
  return isPositive && exists !== null ? [exists] : [];
}
