// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Objects as the source has them, sorted into the cluster's state. A policy whose new version is invalid
 * stays in force in its last valid version; an unreadable object is named, never ignored. Of several objects of one
 * kind and name none wins: pods that any of such policies means are denied.
 */

import type {
  EndpointSlice,
  K8sObject,
  LocalRedirectPolicy,
  Namespace,
  Node,
  Pod,
  PolicyObject,
  Service,
  UnsupportedObject,
} from '@tandem/core/k8s/objects';
import { isPolicyObject, objectKey } from '@tandem/core/k8s/objects';
import { parseObject } from '@tandem/core/k8s/parse-object';
import { type Issue, isFields } from '@tandem/core/k8s/shape';
import type { ClusterState, PolicyState } from '@tandem/core/policy/model/cluster-state';
import type { Diagnostic } from '@tandem/core/policy/model/desired';
import type { SourceState } from '../source/directory.ts';
import type { SourceObject } from '../source/read-documents.ts';
import { areEqual, duplicate, placeOf } from './duplicates.ts';
import { PolicyBuilder } from './policy-builder.ts';
import { unsupportedKind } from './unsupported-kind.ts';

type PlainObject = Exclude<K8sObject, PolicyObject | UnsupportedObject>;

interface Draft {
  readonly namespaces: Map<string, Namespace>;
  readonly nodes: Map<string, Node>;
  readonly pods: Map<string, Pod>;
  readonly services: Map<string, Service>;
  readonly endpointSlices: Map<string, EndpointSlice>;
  readonly redirectPolicies: Map<string, LocalRedirectPolicy>;
  readonly policies: ReadonlyMap<string, PolicyState>;
  readonly diagnostics: Diagnostic[];
}

/** Objects of one kind, namespace and name. */
interface Versions {
  readonly objects: PlainObject[];
  readonly sources: SourceObject[];
}

export class ClusterBuilder {
  readonly #policies = new PolicyBuilder();
  /** The last readable version of each object, by kind, namespace and name. */
  #lastObjects: ReadonlyMap<string, PlainObject> = new Map();
  /** Objects of files that did not change are the same, and so are their results. */
  readonly #parsed = new WeakMap<SourceObject, ReturnType<typeof parseObject>>();

  #parse(source: SourceObject): ReturnType<typeof parseObject> {
    const known = this.#parsed.get(source);
    if (known !== undefined) return known;
    const parsed = parseObject(source.raw, source.damage);
    this.#parsed.set(source, parsed);
    return parsed;
  }

  build(source: Pick<SourceState, 'objects' | 'problems'>): ClusterState {
    const diagnostics: Diagnostic[] = source.problems.map(({ file, message }) => ({
      severity: 'error',
      code: 'file-unreadable',
      subject: file,
      message,
    }));
    const policies: (readonly [PolicyObject, SourceObject])[] = [];
    const versions = new Map<string, Versions>();
    const unreadable = new Map<string, PlainObject | null>();
    for (const each of source.objects) {
      const parsed = this.#parse(each);
      if (!parsed.ok) {
        unreadable.set(identityOf(each.raw), parsed.error.partial ?? null);
        diagnostics.push(...invalid(parsed.error, each));
      } else if (parsed.value.kind === 'unsupported') {
        diagnostics.push(unsupportedKind(parsed.value, placeOf(each)));
      } else if (isPolicyObject(parsed.value)) {
        policies.push([parsed.value, each]);
      } else {
        const identity = `${parsed.value.kind} ${objectKey(parsed.value)}`;
        const found = versions.get(identity) ?? { objects: [], sources: [] };
        versions.set(identity, found);
        found.objects.push(parsed.value);
        found.sources.push(each);
      }
    }
    // A Node or Service that vanished because of a typo would open its addresses to learning.
    for (const [identity, partial] of unreadable) {
      const last = this.#lastObjects.get(identity) ?? partial;
      if (last !== null && !versions.has(identity)) {
        versions.set(identity, { objects: [last], sources: [] });
      }
    }
    const built = this.#policies.build(policies);
    diagnostics.push(...built.diagnostics);
    const draft: Draft = {
      namespaces: new Map(),
      nodes: new Map(),
      pods: new Map(),
      services: new Map(),
      endpointSlices: new Map(),
      redirectPolicies: new Map(),
      policies: built.policies,
      diagnostics,
    };
    this.#lastObjects = new Map(
      [...versions].map(([identity, { objects }]) => [identity, objects[0] as PlainObject]),
    );
    for (const each of versions.values()) addVersions(each, draft);
    return draft;
  }
}

/**
 * Objects that say the same are one. Of others a Namespace is as if it were not known, and nothing is redirected; the rest count all,
 * which closes addresses to learning and holds a pod that two objects claim with different labels.
 */
function addVersions({ objects, sources }: Versions, draft: Draft): void {
  const [first, ...others] = objects;
  if (first === undefined) return;
  const key = objectKey(first);
  if (others.length > 0) {
    const isSame = areEqual(sources);
    const subject = `${first.kind}/${first.namespace === '' ? first.name : key}`;
    draft.diagnostics.push(duplicate(subject, sources, isSame));
    if (isSame) others.length = 0;
    else if (isNothingIfDisputed(first)) return;
  }
  add(first, key, draft);
  for (const [index, other] of others.entries()) add(other, `${key} #${index + 2}`, draft);
}

function isNothingIfDisputed({ kind }: PlainObject): boolean {
  return kind === 'Namespace' || kind === 'CiliumLocalRedirectPolicy';
}

function add(object: PlainObject, key: string, draft: Draft): void {
  switch (object.kind) {
    case 'Namespace':
      draft.namespaces.set(key, object);
      return;
    case 'Node':
      draft.nodes.set(key, object);
      return;
    case 'Pod':
      draft.pods.set(key, object);
      return;
    case 'Service':
      draft.services.set(key, object);
      return;
    case 'EndpointSlice':
      draft.endpointSlices.set(key, object);
      return;
    case 'CiliumLocalRedirectPolicy':
      draft.redirectPolicies.set(key, object);
  }
}

function invalid(
  { subject, issues }: { readonly subject: string; readonly issues: readonly Issue[] },
  source: SourceObject,
): readonly Diagnostic[] {
  return issues.map(({ path, message }) => ({
    severity: 'error',
    code: 'object-invalid',
    subject: `${subject} (${placeOf(source)}, document ${source.document}): ${path}`,
    message,
  }));
}

/** Kind, namespace and name of an object that cannot be read, as far as these can; '' otherwise. */
function identityOf(raw: unknown): string {
  if (!isFields(raw)) return '';
  const { kind, metadata } = raw;
  if (typeof kind !== 'string' || !isFields(metadata)) return '';
  const { namespace, name } = metadata;
  if (typeof name !== 'string') return '';
  const isOfCluster = kind === 'Namespace' || kind === 'Node';
  const place = typeof namespace === 'string' && namespace !== '' ? namespace : 'default';
  return `${kind} ${objectKey({ namespace: isOfCluster ? '' : place, name })}`;
}
