// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Kubernetes objects from parsed YAML or JSON: shape checked by hand, errors that name field and fix. */

import { objectErrorsMax } from '../limits.ts';
import { ipv4PrefixBits, isIpv4Prefix, type Prefix, parseAddress, parsePrefix } from '../net/ip.ts';
import { err, ok, type Result } from '../result.ts';
import {
  type EndpointSlice,
  interfaceAnnotation,
  type K8sObject,
  type Namespace,
  type Node,
  type ObjectMeta,
  type Pod,
  type Service,
  type SliceEndpoint,
  type TargetedPort,
  tunnelAnnotations,
} from './objects.ts';
import { parsePolicyObject } from './parse-policy-object.ts';
import { readRedirectPolicy } from './parse-redirect-policy.ts';
import {
  at,
  type Fields,
  type Issue,
  Issues,
  isFields,
  isText,
  nameOf,
  readFields,
  readFlag,
  readInteger,
  readOptionalFields,
  readOwnList,
  readOwnTexts,
  readRequiredText,
  readSeconds,
  readText,
  readTextMap,
} from './shape.ts';

export interface ObjectError {
  /** `Kind namespace/name` as far as it could be read. */
  readonly subject: string;
  /** At least one. */
  readonly issues: readonly Issue[];
  /**
   * A Node, Service, EndpointSlice or Pod with the addresses that could be read: it is better known in part
   * than not, because what is not known of the cluster counts as the world, and an unknown pod is not enforced.
   */
  readonly partial?: Node | Service | EndpointSlice | Pod;
}

const portRange = { min: 1, max: 65_535 };
const noFields: Fields = {};
/** Labels of objects whose labels no selector reads. */
const noLabels: ReadonlyMap<string, string> = new Map();

/** Groups and kinds; a kind of another group is another kind. */
const readers: Readonly<
  Record<string, (fields: Fields, meta: ObjectMeta, issues: Issues) => K8sObject>
> = {
  'v1/Namespace': (_, meta) => ({ kind: 'Namespace', ...meta }) satisfies Namespace,
  'v1/Node': readNode,
  'v1/Pod': readPod,
  'v1/Service': readService,
  'discovery.k8s.io/v1/EndpointSlice': readEndpointSlice,
  'cilium.io/v2/CiliumLocalRedirectPolicy': readRedirectPolicy,
};

const clusterKinds: ReadonlySet<string> = new Set(['v1/Namespace', 'v1/Node']);

/**
 * One object. Kinds that we do not know are values of kind 'unsupported', for the caller to show. `damage`:
 * why `raw` is only what could be recovered of a text that is no YAML; null: it is all of it.
 */
export function parseObject(
  raw: unknown,
  damage: string | null = null,
): Result<K8sObject, ObjectError> {
  const issues = new Issues(objectErrorsMax);
  const fields = readFields(raw, '', issues);
  if (fields === null) return err({ subject: 'object', issues: issues.list() });
  const policy = parsePolicyObject(fields, damage);
  if (policy !== null) return ok(policy);
  if (fields['apiVersion'] === undefined && fields['kind'] === undefined) {
    const message = 'is no object of Kubernetes: it has neither apiVersion nor kind';
    return err({ subject: 'object', issues: [{ path: '', message: damage ?? message }] });
  }
  const apiVersion = readRequiredText(fields, 'apiVersion', '', issues);
  const kind = readRequiredText(fields, 'kind', '', issues);
  const type = `${apiVersion}/${kind}`;
  const read = readers[type];
  // Of a kind that is not read nothing is wrong: it need not even have metadata.
  const metaIssues = read === undefined ? new Issues(objectErrorsMax) : issues;
  const given = readFields(fields['metadata'], 'metadata', metaIssues);
  const scope = read === undefined ? 'unknown' : clusterKinds.has(type) ? 'cluster' : 'namespace';
  const metadata = given ?? noFields;
  const meta = readMeta(metadata, scope, metaIssues);
  // kubectl takes it for a list, and what it holds may be policies.
  const { items } = fields;
  if (read === undefined && items !== undefined && !Array.isArray(items)) {
    issues.add('items', `is ${nameOf(items)}, but must be a list: put a dash before each object`);
  }
  const path = meta.namespace === '' ? meta.name : `${meta.namespace}/${meta.name}`;
  const subject = path === '' ? kind || 'object' : `${kind || 'object'} ${path}`;
  // Without these it is not known which object it is.
  const { namespace } = metadata;
  const isNamed = meta.name !== '' && (namespace === undefined || isText(namespace));
  if (issues.any && !(isNamed && read !== undefined))
    return err({ subject, issues: issues.list() });
  const object =
    read?.(fields, meta, issues) ??
    ({
      kind: 'unsupported',
      ...meta,
      apiVersion,
      originalKind: kind,
      isPolicy: isNetworkPolicy(apiVersion, kind),
    } as const);
  if (damage !== null) issues.add('', damage);
  if (!issues.any) return ok(object);
  const partial = partOf(object);
  return err({ subject, issues: issues.list(), ...(partial === null ? {} : { partial }) });
}

/**
 * Whether the author of an object of this kind expects it to drop packets. Many kinds are called policies: Kyverno's, Istio's and Flux'
 * say other things, and so do Cilium's of addresses, routes and bandwidth. A list is taken apart before, unless it has no `items`.
 */
function isNetworkPolicy(apiVersion: string, kind: string): boolean {
  const group = apiVersion.split('/')[0] ?? '';
  if (/(^|\.)cilium\.io$/.test(group)) {
    return /NetworkPolic(y|ies)(List)?$|^CiliumCIDRGroup$|^CiliumLocalRedirectPolicy$/i.test(kind);
  }
  return /NetworkPolic(y|ies)(List)?$/i.test(kind);
}

/** The usable part of an object that cannot be read whole. */
function partOf(object: K8sObject): Node | Service | EndpointSlice | Pod | null {
  switch (object.kind) {
    case 'Node':
    case 'Service':
    case 'EndpointSlice':
      return object;
    case 'Pod':
      return object.addresses.length === 0 ? null : { ...object, isPartial: true };
    default:
      return null;
  }
}

function readMeta(
  metadata: Fields,
  scope: 'cluster' | 'namespace' | 'unknown',
  issues: Issues,
): ObjectMeta {
  const namespace = readText(metadata, 'namespace', 'metadata', issues) ?? '';
  return {
    // kubectl puts an object without a namespace into "default"; files are read the same way.
    namespace:
      scope === 'cluster' ? '' : scope === 'namespace' ? namespace || 'default' : namespace,
    name: readRequiredText(metadata, 'name', 'metadata', issues),
    uid: readText(metadata, 'uid', 'metadata', issues) ?? '',
    labels: readMetaTexts(metadata, 'labels', issues),
  };
}

/** Labels or annotations. Null is what kubectl and the API server drop. */
function readMetaTexts(
  metadata: Fields,
  field: string,
  issues: Issues,
): ReadonlyMap<string, string> {
  return metadata[field] === null ? new Map() : readTextMap(metadata, field, 'metadata', issues);
}

function readNode(fields: Fields, meta: ObjectMeta, issues: Issues): Node {
  const spec = readOptionalFields(fields, 'spec', '', issues) ?? noFields;
  const status = readOptionalFields(fields, 'status', '', issues) ?? noFields;
  const texts = [...readOwnTexts(spec, 'podCIDRs', 'spec', issues)];
  const single = readText(spec, 'podCIDR', 'spec', issues);
  if (texts.length === 0 && single !== undefined && single !== '') texts.push(single);
  const podCidrs: Prefix[] = [];
  for (const text of texts) {
    const prefix = parsePrefix(text);
    if (prefix === null) issues.add('spec.podCIDRs', `${JSON.stringify(text)} is no prefix`);
    else if (prefix.bits === (isIpv4Prefix(prefix) ? ipv4PrefixBits : 0))
      issues.add(
        'spec.podCIDRs',
        `${text} holds every address: no CIDR of a policy would match any`,
      );
    else podCidrs.push(prefix);
  }
  const addresses: Uint8Array[] = [];
  for (const [index, value] of readOwnList(status, 'addresses', 'status', issues).entries()) {
    const path = `status.addresses[${index}]`;
    const entry = readFields(value, path, issues);
    if (entry === null) continue;
    // Host names and DNS names stand in the same list.
    const type = readText(entry, 'type', path, issues);
    if (type === 'Hostname' || type === 'InternalDNS' || type === 'ExternalDNS') continue;
    addAddress(
      readRequiredText(entry, 'address', path, issues),
      at(path, 'address'),
      addresses,
      issues,
    );
  }
  const annotations = readMetaTexts(fields['metadata'] as Fields, 'annotations', issues);
  for (const name of tunnelAnnotations) {
    const text = annotations.get(name);
    if (text !== undefined && text !== '') {
      addAddress(text, `metadata.annotations.${name}`, addresses, issues);
    }
  }
  return { kind: 'Node', ...meta, podCidrs, addresses };
}

function readPod(fields: Fields, meta: ObjectMeta, issues: Issues): Pod {
  const spec = readOptionalFields(fields, 'spec', '', issues) ?? noFields;
  const status = readOptionalFields(fields, 'status', '', issues) ?? noFields;
  const metadata = fields['metadata'] as Fields;
  const addresses: Uint8Array[] = [];
  for (const [index, value] of readOwnList(status, 'podIPs', 'status', issues).entries()) {
    const path = `status.podIPs[${index}]`;
    const entry = readFields(value, path, issues);
    if (entry === null) continue;
    addAddress(readRequiredText(entry, 'ip', path, issues), at(path, 'ip'), addresses, issues);
  }
  const single = readText(status, 'podIP', 'status', issues) ?? '';
  if (addresses.length === 0 && single !== '')
    addAddress(single, 'status.podIP', addresses, issues);
  const phase = readText(status, 'phase', 'status', issues) ?? '';
  const annotations = readMetaTexts(metadata, 'annotations', issues);
  const interfaceName = annotations.get(interfaceAnnotation);
  const namedPorts = readNamedPorts(spec, issues);
  return {
    kind: 'Pod',
    ...meta,
    nodeName: readText(spec, 'nodeName', 'spec', issues) ?? '',
    hostNetwork: readFlag(spec, 'hostNetwork', 'spec', issues) ?? false,
    serviceAccount: readText(spec, 'serviceAccountName', 'spec', issues) || 'default',
    addresses,
    isFinished: phase === 'Succeeded' || phase === 'Failed',
    isDeleting: (metadata['deletionTimestamp'] ?? null) !== null,
    ...(isPodReady(status, issues) ? { isReady: true } : {}),
    createdSeconds: readSeconds(metadata['creationTimestamp']),
    ...(namedPorts.size === 0 ? {} : { namedPorts }),
    ...(interfaceName === undefined ? {} : { interfaceName }),
  };
}

/** kubelet's word. A pod without conditions was not started yet. */
function isPodReady(status: Fields, issues: Issues): boolean {
  return readOwnList(status, 'conditions', 'status', issues).some(
    (condition) =>
      isFields(condition) && condition['type'] === 'Ready' && condition['status'] === 'True',
  );
}

/**
 * Named ports of containers, and of sidecars (containers that are started before them and stay). If several have one name,
 * the first counts, as for Services (k8s.io/endpointslice FindPort).
 */
function readNamedPorts(spec: Fields, issues: Issues): ReadonlyMap<string, number> {
  const named = new Map<string, number>();
  for (const field of ['containers', 'initContainers']) {
    for (const [index, value] of readOwnList(spec, field, 'spec', issues).entries()) {
      const path = `spec.${field}[${index}]`;
      const container = readFields(value, path, issues);
      if (container === null) continue;
      if (field === 'initContainers' && container['restartPolicy'] !== 'Always') continue;
      addNamedPorts(container, path, named, issues);
    }
  }
  return named;
}

function addNamedPorts(
  container: Fields,
  path: string,
  named: Map<string, number>,
  issues: Issues,
): void {
  for (const [index, value] of readOwnList(container, 'ports', path, issues).entries()) {
    const portPath = `${path}.ports[${index}]`;
    const port = readFields(value, portPath, issues);
    const name = port === null ? undefined : readText(port, 'name', portPath, issues);
    if (port === null || name === undefined || name === '') continue;
    const number = readInteger(port, 'containerPort', portPath, portRange, issues);
    const protocol = readText(port, 'protocol', portPath, issues) ?? 'TCP';
    const key = `${protocol}/${name}`;
    if (number !== undefined && !named.has(key)) named.set(key, number);
  }
}

function readService(fields: Fields, meta: ObjectMeta, issues: Issues): Service {
  const spec = readOptionalFields(fields, 'spec', '', issues) ?? noFields;
  const texts = [...readOwnTexts(spec, 'clusterIPs', 'spec', issues)];
  const single = readText(spec, 'clusterIP', 'spec', issues) ?? '';
  if (texts.length === 0) texts.push(single);
  const clusterIps: Uint8Array[] = [];
  for (const text of texts) {
    if (text !== '' && text !== 'None') addAddress(text, 'spec.clusterIPs', clusterIps, issues);
  }
  const ports = readPorts(spec, 'spec', issues);
  const selector = readServiceSelector(spec);
  return { kind: 'Service', ...meta, labels: noLabels, clusterIps, ports, selector };
}

function readEndpointSlice(fields: Fields, meta: ObjectMeta, issues: Issues): EndpointSlice {
  const addressType = readRequiredText(fields, 'addressType', '', issues);
  const endpoints: SliceEndpoint[] = [];
  for (const [index, value] of readOwnList(fields, 'endpoints', '', issues).entries()) {
    const path = `endpoints[${index}]`;
    const endpoint = readFields(value, path, issues);
    if (endpoint === null) continue;
    const conditions = readOptionalFields(endpoint, 'conditions', path, issues) ?? noFields;
    const isReady = readFlag(conditions, 'ready', at(path, 'conditions'), issues) ?? true;
    const isServing = readFlag(conditions, 'serving', at(path, 'conditions'), issues) ?? isReady;
    const isTerminating = readFlag(conditions, 'terminating', at(path, 'conditions'), issues);
    const isUsable = isReady || (isServing && isTerminating === true);
    const [text] = readOwnTexts(endpoint, 'addresses', path, issues);
    if (text === undefined || addressType === 'FQDN') continue;
    const addresses: Uint8Array[] = [];
    addAddress(text, at(path, 'addresses'), addresses, issues);
    const [address] = addresses;
    if (address !== undefined) endpoints.push({ address, isReady, isUsable });
  }
  const ports = readPorts(fields, '', issues).map(({ name, port, protocol }) => ({
    ...{ name, port, protocol },
  }));
  const serviceName = meta.labels.get('kubernetes.io/service-name') ?? '';
  return { kind: 'EndpointSlice', ...meta, labels: noLabels, serviceName, endpoints, ports };
}

/** Ports of a Service or slice. A slice's port without a number is every port; DNS never uses that. */
function readPorts(fields: Fields, path: string, issues: Issues): readonly TargetedPort[] {
  const ports: TargetedPort[] = [];
  for (const [index, value] of readOwnList(fields, 'ports', path, issues).entries()) {
    const portPath = `${at(path, 'ports')}[${index}]`;
    const entry = readFields(value, portPath, issues);
    if (entry === null) continue;
    const port = readInteger(entry, 'port', portPath, portRange, issues);
    const name = readText(entry, 'name', portPath, issues) ?? '';
    const protocol = readText(entry, 'protocol', portPath, issues) ?? 'TCP';
    if (port === undefined) continue;
    ports.push({ name, port, protocol, targetPort: readTargetPort(entry, port) });
  }
  return ports;
}

/** Empty if one of its values is no text: the API server takes no such Service, and its addresses count all the same. */
function readServiceSelector(spec: Fields): ReadonlyMap<string, string> {
  const issues = new Issues(1);
  const selector = readTextMap(spec, 'selector', 'spec', issues);
  return issues.list().length === 0 ? selector : new Map();
}

/** As the API server defaults it. What is neither number nor text has no meaning here: its kind is the API server's to check. */
function readTargetPort({ targetPort }: Fields, port: number): number {
  if (targetPort === undefined || targetPort === null) return port;
  return typeof targetPort === 'number' ? targetPort : 0;
}

function addAddress(text: string, path: string, addresses: Uint8Array[], issues: Issues): void {
  if (text === '') return;
  const address = parseAddress(text);
  if (address === null) issues.add(path, `${JSON.stringify(text)} is no IP address`);
  else addresses.push(address);
}
