// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A peer of a ClusterNetworkPolicy: namespaces, pods, or in egress rules networks. */

import { at, type Fields, nameOf, readFields, readList, withoutNulls } from '../../k8s/shape.ts';
import { compareAddresses, formatPrefix, parseAddress } from '../../net/ip.ts';
import { cidrPeer, type Peer } from '../model/peer.ts';
import type { ParseContext } from './parse-context.ts';
import { parseWholePrefix } from './parse-peers.ts';
import { parseNamespaces, parsePods } from './parse-pod-selector.ts';
import { takeItems } from './tier-items.ts';

/** An item that this version does not know: its rule fails closed. */
export interface UnknownItem {
  readonly path: string;
  /** Clause that ends before the effect. */
  readonly unknown: string;
  readonly fix: string;
}

const knownFields: readonly string[] = ['namespaces', 'pods', 'networks'];
const ofOneNamespace =
  'write a policy for each namespace, with namespaces: {matchLabels: {kubernetes.io/metadata.name: NAME}}';
const fixes: Readonly<Record<string, string>> = {
  nodes: 'write networks with the addresses of the nodes',
  domainNames: 'to accept names write toFQDNs of a CiliumNetworkPolicy',
  podSelector: 'write pods: {namespaceSelector: {}, podSelector: ...}',
  namespaceSelector: 'write namespaces, or pods with both selectors',
  ipBlock: 'write networks with prefixes',
  cidr: 'write networks with prefixes',
  matchLabels: 'put it under namespaces, or under podSelector of pods',
  matchExpressions: 'put it under namespaces, or under podSelector of pods',
  sameNamespace: ofOneNamespace,
  sameLabels: ofOneNamespace,
  notSameLabels: ofOneNamespace,
};

/** No peers: in error. */
export function parseTierPeer(
  value: unknown,
  section: 'ingress' | 'egress',
  path: string,
  context: ParseContext,
): UnknownItem | { readonly peers: readonly Peer[] } {
  const none = { peers: [] };
  const read = readFields(value, path, context.errors);
  if (read === null) return none;
  const fields = withoutNulls(read, knownFields);
  const isIngress = section === 'ingress';
  const known = isIngress ? ['namespaces', 'pods'] : knownFields;
  const expected = known.join(' or ');
  const given = Object.keys(fields);
  const other = given.find((field) => !known.includes(field));
  if (other !== undefined) {
    const fix = Object.hasOwn(fixes, other) ? fixes[other] : `write ${expected}`;
    const isOfEgress = isIngress && other === 'networks';
    const unknown = isOfEgress
      ? 'is for egress rules alone'
      : 'is no field that this version enforces';
    return { path: at(path, other), unknown, fix: isOfEgress ? `write ${expected}` : (fix ?? '') };
  }
  const [field] = given;
  if (field === undefined) {
    const unknown = 'has no field, or one that the definition in the cluster does not have';
    return { path, unknown, fix: `write ${expected}` };
  }
  if (given.length > 1) {
    context.error(path, `has ${given.join(' and ')}: write a peer for each`);
    return none;
  }
  if (field === 'networks') return { peers: parseNetworks(fields, path, context) };
  const selector =
    field === 'pods'
      ? parsePods(fields['pods'], at(path, 'pods'), context)
      : parseNamespaces(fields['namespaces'], at(path, 'namespaces'), context);
  return selector === null ? none : { peers: [{ kind: 'labels', selector }] };
}

/** Pods and nodes count by their addresses, as in an ipBlock of a NetworkPolicy. The API refuses a list that has a text twice. */
function parseNetworks(fields: Fields, path: string, context: ParseContext): readonly Peer[] {
  const listPath = at(path, 'networks');
  const list = takeItems(readList(fields, 'networks', path, context.errors), listPath, context);
  if (Array.isArray(fields['networks']) && list.length === 0)
    context.error(listPath, 'names nobody: give a prefix');
  return list.flatMap((value, index): readonly Peer[] => {
    const itemPath = `${listPath}[${index}]`;
    if (typeof value !== 'string') {
      context.error(itemPath, `is ${nameOf(value)}, but must be a text: write a prefix in quotes`);
      return [];
    }
    const first = list.indexOf(value);
    if (first < index) {
      context.error(itemPath, `repeats ${listPath}[${first}], which the API refuses: remove one`);
      return [];
    }
    const prefix = parseWholePrefix(value, itemPath, context);
    if (prefix === null) return [];
    const address = parseAddress(value.split('/')[0] ?? '');
    if (address !== null && compareAddresses(address, prefix.address) !== 0)
      context.warn(itemPath, `${value} means ${formatPrefix(prefix)}: write that`);
    return [{ ...cidrPeer(prefix, []), isIpBlock: true }];
  });
}
