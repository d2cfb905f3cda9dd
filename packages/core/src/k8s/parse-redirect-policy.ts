// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * CiliumLocalRedirectPolicy, as far as Tandem redirects. A field that is not understood makes the object invalid: its
 * intention is unknown, and traffic must not go elsewhere than its owner meant.
 *
 * Source: Cilium pkg/k8s/apis/cilium.io/v2/clrp_types.go, pkg/loadbalancer/redirectpolicy (1.20).
 */

import { redirectPortsMax, redirectSelectorItemsMax } from '../limits.ts';
import { isIpv4, parseAddress } from '../net/ip.ts';
import { isLabelKey, isLabelValue } from './names.ts';
import type {
  LabelCondition,
  LocalRedirectPolicy,
  ObjectMeta,
  RedirectFrontend,
  RedirectPort,
} from './objects.ts';
import {
  at,
  type Fields,
  type Issues,
  nameOf,
  readFields,
  readFlag,
  readList,
  readRequiredText,
  readText,
  readTextMap,
  readTexts,
  readTimestamp,
} from './shape.ts';

const operators = ['In', 'NotIn', 'Exists', 'DoesNotExist'] as const;
const noFields: Fields = {};
/** Value in the place of an unreadable object; its issues keep it from being used. */
const unreadable: RedirectFrontend = { kind: 'service', name: '', ports: [] };
const unsupported: ReadonlyMap<string, string> = new Map([
  ['overrideIP', 'is not supported: backends are pods with addresses of their own'],
  [
    'nodeSelector',
    'is not supported: a node without a ready backend redirects nothing, so select by the backends',
  ],
]);

export function readRedirectPolicy(
  fields: Fields,
  meta: ObjectMeta,
  issues: Issues,
): LocalRedirectPolicy {
  checkFields(fields, '', ['apiVersion', 'kind', 'metadata', 'spec', 'status'], issues);
  const spec = requiredFields(fields, 'spec', '', issues);
  const known = ['redirectFrontend', 'redirectBackend', 'skipRedirectFromBackend', 'description'];
  checkFields(spec, 'spec', known, issues);
  // Backends are never redirected to themselves, whatever it says.
  readFlag(spec, 'skipRedirectFromBackend', 'spec', issues);
  const frontend = readFrontend(spec, meta.namespace, issues);
  const path = 'spec.redirectBackend';
  const backend = requiredFields(spec, 'redirectBackend', 'spec', issues);
  checkFields(backend, path, ['localEndpointSelector', 'toPorts'], issues);
  const selector = readSelector(backend, path, issues);
  const backendPorts = readPorts(backend, path, frontend.ports.length > 1, issues);
  // What follows of another fault is no fault of its own.
  if (!issues.any && backendPorts.length === 0) {
    issues.add(at(path, 'toPorts'), 'is missing or empty: name the ports of the backends');
  }
  if (!issues.any) checkProtocols(frontend, backendPorts, issues);
  const metadata = fields['metadata'] as Fields;
  return {
    kind: 'CiliumLocalRedirectPolicy',
    ...meta,
    createdAt: readTimestamp(metadata['creationTimestamp']),
    frontend,
    selector,
    backendPorts,
  };
}

function readFrontend(spec: Fields, namespace: string, issues: Issues): RedirectFrontend {
  const path = 'spec.redirectFrontend';
  const frontend = requiredFields(spec, 'redirectFrontend', 'spec', issues);
  checkFields(frontend, path, ['addressMatcher', 'serviceMatcher'], issues);
  const { addressMatcher, serviceMatcher } = frontend;
  if ((addressMatcher === undefined) === (serviceMatcher === undefined)) {
    if (frontend !== noFields)
      issues.add(path, 'must have either addressMatcher or serviceMatcher');
    return unreadable;
  }
  return addressMatcher === undefined
    ? readServiceMatcher(serviceMatcher, at(path, 'serviceMatcher'), namespace, issues)
    : readAddressMatcher(addressMatcher, at(path, 'addressMatcher'), issues);
}

function readAddressMatcher(value: unknown, path: string, issues: Issues): RedirectFrontend {
  const matcher = readFields(value, path, issues);
  if (matcher === null) return unreadable;
  checkFields(matcher, path, ['ip', 'toPorts'], issues);
  const text = readRequiredText(matcher, 'ip', path, issues).trim();
  const ports = readPorts(matcher, path, false, issues);
  if (ports.length === 0 && !issues.any) {
    issues.add(at(path, 'toPorts'), 'is missing or empty: name the ports');
  }
  if (text === '') return unreadable;
  const address = parseAddress(text);
  const reason = address === null ? 'is no IP address' : unfitAddress(address);
  if (reason !== null) issues.add(at(path, 'ip'), `${JSON.stringify(text)} ${reason}`);
  return address === null ? unreadable : { kind: 'address', address, ports };
}

/** Reason for which nothing can be sent to it through the node; null: it can. */
function unfitAddress(address: Uint8Array): string | null {
  const [first = 0, second = 0] = isIpv4(address) ? address.subarray(12) : address;
  if (isIpv4(address)) {
    if (first === 0) return 'is no address of a server';
    if (first === 127) return 'is a loopback address, which stays in the pod';
    return first >= 224 ? 'is an address of a group or of all, which is not translated' : null;
  }
  if (address.subarray(0, 15).every((byte) => byte === 0)) return 'is no address of a server';
  if (first === 0xff) return 'is an address of a group, which is not translated';
  const isLinkLocal = first === 0xfe && (second & 0xc0) === 0x80;
  return isLinkLocal ? 'is link-local, so it does not leave the link of the pod' : null;
}

function readServiceMatcher(
  value: unknown,
  path: string,
  namespace: string,
  issues: Issues,
): RedirectFrontend {
  const matcher = readFields(value, path, issues);
  if (matcher === null) return unreadable;
  checkFields(matcher, path, ['serviceName', 'namespace', 'toPorts'], issues);
  const name = readRequiredText(matcher, 'serviceName', path, issues);
  if (name !== '' && !/^[a-z0-9-]{1,63}$/.test(name)) {
    issues.add(at(path, 'serviceName'), `is ${nameOf(name)}, which is no name of a Service`);
  }
  const own = readRequiredText(matcher, 'namespace', path, issues);
  if (own !== '' && own !== namespace) {
    issues.add(
      at(path, 'namespace'),
      `is ${own}, but a policy redirects Services of its own namespace ${namespace} alone: move the policy there`,
    );
  }
  return { kind: 'service', name, ports: readPorts(matcher, path, false, issues) };
}

/** `toPorts`; of several each has a name of its own. */
function readPorts(
  fields: Fields,
  path: string,
  isNamed: boolean,
  issues: Issues,
): readonly RedirectPort[] {
  const listPath = at(path, 'toPorts');
  const list = readList(fields, 'toPorts', path, issues);
  if (list.length > redirectPortsMax) {
    issues.add(listPath, `has ${list.length} ports, at most ${redirectPortsMax} are redirected`);
  }
  const ports: RedirectPort[] = [];
  for (const [index, value] of list.slice(0, redirectPortsMax).entries()) {
    const port = readPort(value, `${listPath}[${index}]`, isNamed || list.length > 1, issues);
    if (port === null) continue;
    // A frontend of one name would have two backends, and it is not known which is meant.
    const isTwice = ports.some(
      ({ name, protocol }) => name !== '' && name === port.name && protocol === port.protocol,
    );
    if (isTwice) issues.add(`${listPath}[${index}].name`, `${port.name} is the name of two ports`);
    ports.push(port);
  }
  return ports;
}

function readPort(
  value: unknown,
  path: string,
  isNamed: boolean,
  issues: Issues,
): RedirectPort | null {
  const fields = readFields(value, path, issues);
  if (fields === null) return null;
  checkFields(fields, path, ['port', 'protocol', 'name'], issues);
  const text = readRequiredText(fields, 'port', path, issues);
  const port = /^[1-9][0-9]{0,4}$/.test(text) ? Number(text) : 0;
  if (text !== '' && (port === 0 || port > 65_535)) {
    issues.add(at(path, 'port'), `is ${nameOf(text)}, but must be a number of 1 to 65535`);
  }
  const protocol = readRequiredText(fields, 'protocol', path, issues).toUpperCase();
  if (protocol !== '' && protocol !== 'TCP' && protocol !== 'UDP') {
    issues.add(at(path, 'protocol'), `is ${nameOf(protocol)}, but must be TCP or UDP`);
  }
  const name = (readText(fields, 'name', path, issues) ?? '').toLowerCase();
  if (isNamed && name === '') {
    issues.add(at(path, 'name'), 'is missing: of several ports each needs a name, which pairs it');
  }
  return protocol === 'TCP' || protocol === 'UDP' ? { name, port, protocol } : null;
}

/** Finds ports that cannot be paired, whatever ports the Service has. */
function checkProtocols(
  { kind, ports }: RedirectFrontend,
  backends: readonly RedirectPort[],
  issues: Issues,
): void {
  for (const port of ports) {
    if (pairedPort(port, ports.length, backends) !== null) continue;
    const matcher = `spec.redirectFrontend.${kind}Matcher.toPorts`;
    issues.add(
      matcher,
      `${port.name === '' ? port.port : port.name} (${port.protocol}) has no port of redirectBackend: give one the same name and protocol`,
    );
  }
}

/**
 * The backend's port for one of `frontends` ports: the one of its name; where either side has a single port, names need
 * not agree. Null: none has its protocol.
 */
export function pairedPort(
  { name, protocol }: Pick<RedirectPort, 'name' | 'protocol'>,
  frontends: number,
  backends: readonly RedirectPort[],
): RedirectPort | null {
  const own = backends.filter((each) => each.protocol === protocol);
  const named = name === '' ? undefined : own.find((each) => each.name === name);
  if (named !== undefined) return named;
  const [only, ...others] = own;
  const isUnambiguous = frontends === 1 || backends.length === 1;
  return isUnambiguous && only !== undefined && others.length === 0 ? only : null;
}

function readSelector(backend: Fields, path: string, issues: Issues): readonly LabelCondition[] {
  const selectorPath = at(path, 'localEndpointSelector');
  const selector = requiredFields(backend, 'localEndpointSelector', path, issues);
  checkFields(selector, selectorPath, ['matchLabels', 'matchExpressions'], issues);
  const labels = readTextMap(selector, 'matchLabels', selectorPath, issues);
  const labelsPath = at(selectorPath, 'matchLabels');
  const conditions: LabelCondition[] = [...labels].map(([key, value]) => {
    checkValues([value], at(labelsPath, key), issues);
    return { key: withoutSource(key, labelsPath, issues), operator: 'In', values: [value] };
  });
  const expressions = readList(selector, 'matchExpressions', selectorPath, issues);
  for (const [index, value] of expressions.entries()) {
    const condition = readCondition(value, `${selectorPath}.matchExpressions[${index}]`, issues);
    if (condition !== null) conditions.push(condition);
  }
  const items = conditions.reduce((sum, { values }) => sum + 1 + values.length, 0);
  if (items > redirectSelectorItemsMax) {
    issues.add(
      selectorPath,
      `has ${items} conditions and values, at most ${redirectSelectorItemsMax} are compared: give the backends a label of their own`,
    );
  }
  // Every pod of the namespace would be a backend.
  if (conditions.length === 0 && !issues.any) {
    issues.add(selectorPath, 'selects every pod of the namespace: name labels of the backends');
  }
  return conditions;
}

function readCondition(value: unknown, path: string, issues: Issues): LabelCondition | null {
  const fields = readFields(value, path, issues);
  if (fields === null) return null;
  checkFields(fields, path, ['key', 'operator', 'values'], issues);
  const key = withoutSource(readRequiredText(fields, 'key', path, issues), path, issues);
  const text = readRequiredText(fields, 'operator', path, issues);
  const operator = operators.find((each) => each === text);
  const values = readTexts(fields, 'values', path, issues);
  if (text !== '' && operator === undefined) {
    issues.add(at(path, 'operator'), `is ${nameOf(text)}, but must be ${operators.join(', ')}`);
  }
  if (operator === undefined) return null;
  const hasValues = operator === 'In' || operator === 'NotIn';
  if (hasValues !== values.length > 0) {
    const message = hasValues ? 'is missing or empty' : `must be empty for ${operator}`;
    issues.add(at(path, 'values'), message);
  }
  checkValues(values, at(path, 'values'), issues);
  return { key, operator, values };
}

/** With a value that no label can have, a redirect would be without backends, and nothing would say why. */
function checkValues(values: readonly string[], path: string, issues: Issues): void {
  const bad = values.find((value) => !isLabelValue(value));
  if (bad === undefined) return;
  const fix = bad === '*' ? ': operator Exists of matchExpressions is any value' : '';
  issues.add(path, `${JSON.stringify(bad)} is no label value${fix}`);
}

/** As Cilium writes them, with or without the source that they are from. */
function withoutSource(key: string, path: string, issues: Issues): string {
  const found = /^(?:k8s|any):(.*)$/.exec(key);
  const name = found?.[1] ?? key;
  if (name.includes(':')) issues.add(path, `${key} is no label of a pod: remove what is before :`);
  else if (name !== '' && !isLabelKey(name)) {
    issues.add(path, `${JSON.stringify(key)} is no label key: write name or domain/name`);
  }
  return name;
}

/** Whether a pod with these labels is selected. */
export function selectsLabels(
  selector: readonly LabelCondition[],
  labels: ReadonlyMap<string, string>,
): boolean {
  return selector.every(({ key, operator, values }) => {
    const value = labels.get(key);
    switch (operator) {
      case 'In':
        return value !== undefined && values.includes(value);
      case 'NotIn':
        return value === undefined || !values.includes(value);
      case 'Exists':
        return value !== undefined;
      case 'DoesNotExist':
        return value === undefined;
    }
  });
}

function requiredFields(fields: Fields, field: string, path: string, issues: Issues): Fields {
  const value = fields[field];
  if (value === undefined) {
    // What a part says that cannot be read is said once.
    if (fields !== noFields) issues.add(at(path, field), 'is missing, but must be given');
    return noFields;
  }
  return readFields(value, at(path, field), issues) ?? noFields;
}

function checkFields(fields: Fields, path: string, known: readonly string[], issues: Issues): void {
  for (const field of Object.keys(fields)) {
    if (known.includes(field)) continue;
    const message = unsupported.get(field) ?? `is no known field: expected ${known.join(', ')}`;
    issues.add(at(path, field), message);
  }
}
