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
import {
  at,
  type Fields,
  readFields,
  readList,
  readOptionalFields,
  readRequiredText,
  readTextMap,
  readTexts,
} from '../k8s/shape.ts';
import { isIdentityLabel, namespaceLabelsPrefix, podNamespaceLabel } from './labels.ts';
import type { ParseContext } from './parse-context.ts';
import {
  type LabelOperator,
  type LabelRequirement,
  type LabelSelector,
  type LabelSource,
  makeSelector,
} from './selector.ts';

const operators: readonly LabelOperator[] = ['In', 'NotIn', 'Exists', 'DoesNotExist'];
const labelName = /^[A-Za-z0-9]([-A-Za-z0-9_./]{0,314}[A-Za-z0-9])?$/;
const labelValue = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;
/** Reserved labels that something here can carry; the others belong to Cilium's own endpoints. */
const reservedNames: readonly string[] = ['host', 'remote-node', 'kube-apiserver', 'world', 'init'];

/** endpointSelector: which pods of this node the policy is for. Null with an error if unreadable. */
export function parseSubject(
  value: unknown,
  path: string,
  context: ParseContext,
): LabelSelector | null {
  const requirements = parseRequirements(value, path, context);
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
  const requirements = parseRequirements(value, path, context);
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

function parseRequirements(
  value: unknown,
  path: string,
  context: ParseContext,
): LabelRequirement[] | null {
  const before = context.errors.count;
  const fields = readFields(value, path, context.errors);
  if (fields === null) return null;
  context.checkFields(fields, path, ['matchLabels', 'matchExpressions']);
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
  context.checkFields(fields, path, ['key', 'operator', 'values']);
  const key = readRequiredText(fields, 'key', path, context.errors);
  const operator = operators.find((name) => name === fields['operator']);
  if (operator === undefined) {
    context.error(at(path, 'operator'), `must be one of ${operators.join(', ')}`);
    return null;
  }
  const values = fields['values'] === null ? [] : readTexts(fields, 'values', path, context.errors);
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
  const bad = values.find((value) => !labelValue.test(value));
  if (bad !== undefined) {
    context.error(path, `${JSON.stringify(bad)} is no label value`);
    return null;
  }
  if (source === 'reserved' && !reservedNames.includes(name)) {
    context.error(path, `reserved:${name} is not supported: use toEntities or fromEntities`);
    return null;
  }
  if (source !== 'reserved' && !isIdentityLabel(name)) {
    context.warn(
      path,
      `label ${name} differs from pod to pod and is no part of identity, so no pod has it here`,
    );
  }
  return { source, name, operator, values };
}

function labelSource(text: string): LabelSource | null {
  return text === 'k8s' || text === 'any' || text === 'reserved' ? text : null;
}

/** The endpointSelector of a spec whose rules are invalid, if that much can be read. */
export function salvageSubject(fields: Fields, context: ParseContext): LabelSelector | null {
  const present = readOptionalFields(fields, 'endpointSelector', '', context.errors);
  return present ? parseSubject(present, 'endpointSelector', context) : null;
}
