// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Objects as the source has them, sorted into the cluster's state. A policy whose new version is invalid
 * stays in force as it last was; what can't be read is named, never ignored.
 */

import type {
  EndpointSlice,
  K8sObject,
  Namespace,
  Node,
  Pod,
  PolicyObject,
  Service,
} from '@tandem/core/k8s/objects';
import { objectKey } from '@tandem/core/k8s/objects';
import { parseObject } from '@tandem/core/k8s/parse-object';
import type { ClusterState, PolicyState } from '@tandem/core/policy/cluster-state';
import type { Diagnostic } from '@tandem/core/policy/desired';
import { parseCiliumPolicy } from '@tandem/core/policy/parse-cilium';
import { formatPolicyRef, type Policy } from '@tandem/core/policy/rule';
import type { SourceState } from '../source/directory.ts';

interface Draft {
  readonly namespaces: Map<string, Namespace>;
  readonly nodes: Map<string, Node>;
  readonly pods: Map<string, Pod>;
  readonly services: Map<string, Service>;
  readonly endpointSlices: Map<string, EndpointSlice>;
  readonly policies: Map<string, PolicyState>;
  readonly diagnostics: Diagnostic[];
}

export class ClusterBuilder {
  /** Last valid version of each policy, by its reference. */
  readonly #lastGood = new Map<string, Policy>();
  /** The last readable version of each object, by kind, namespace and name. */
  #lastObjects = new Map<string, K8sObject>();

  build(source: Pick<SourceState, 'objects' | 'problems'>): ClusterState {
    const draft: Draft = {
      namespaces: new Map(),
      nodes: new Map(),
      pods: new Map(),
      services: new Map(),
      endpointSlices: new Map(),
      policies: new Map(),
      diagnostics: source.problems.map(({ file, message }) => ({
        severity: 'error',
        code: 'file-unreadable',
        subject: file,
        message,
      })),
    };
    const objects = new Map<string, K8sObject>();
    for (const { file, document, raw } of source.objects) {
      const parsed = parseObject(raw);
      const identity = identityOf(raw);
      if (parsed.ok) {
        objects.set(identity, parsed.value);
        this.#add(parsed.value, draft, file);
        continue;
      }
      // A Node or Service that vanished because of a typo would open its addresses to learning.
      const last = this.#lastObjects.get(identity);
      if (last !== undefined) {
        objects.set(identity, last);
        this.#add(last, draft, file);
      }
      for (const { path, message } of parsed.error.issues) {
        draft.diagnostics.push({
          severity: 'error',
          code: 'object-invalid',
          subject: `${parsed.error.subject} (${file}, document ${document}): ${path}`,
          message,
        });
      }
    }
    this.#lastObjects = objects;
    for (const ref of this.#lastGood.keys()) {
      if (!draft.policies.has(ref)) this.#lastGood.delete(ref);
    }
    return draft;
  }

  #add(object: K8sObject, draft: Draft, file: string): void {
    switch (object.kind) {
      case 'Namespace':
        draft.namespaces.set(objectKey(object), object);
        return;
      case 'Node':
        draft.nodes.set(objectKey(object), object);
        return;
      case 'Pod':
        draft.pods.set(objectKey(object), object);
        return;
      case 'Service':
        draft.services.set(objectKey(object), object);
        return;
      case 'EndpointSlice':
        draft.endpointSlices.set(objectKey(object), object);
        return;
      case 'CiliumNetworkPolicy':
      case 'CiliumClusterwideNetworkPolicy':
        this.#addPolicy(object, draft);
        return;
      case 'unsupported':
        draft.diagnostics.push({
          severity: object.isPolicy ? 'error' : 'warning',
          code: 'kind-unsupported',
          subject: `${object.originalKind} ${objectKey(object)} (${file})`,
          message: object.isPolicy
            ? 'this kind of policy is not enforced by this version: remove it, or write it as a CiliumNetworkPolicy'
            : 'this kind is not read',
        });
    }
  }

  #addPolicy(object: PolicyObject, draft: Draft): void {
    const parsed = parseCiliumPolicy(object);
    const ref = formatPolicyRef(parsed.ok ? parsed.value.ref : parsed.error.ref);
    if (parsed.ok) {
      this.#lastGood.set(ref, parsed.value);
      draft.policies.set(ref, { inForce: parsed.value, invalid: null });
    } else {
      draft.policies.set(ref, { inForce: this.#lastGood.get(ref) ?? null, invalid: parsed.error });
    }
  }
}

/** Kind, namespace and name as far as they can be read; '' otherwise. */
function identityOf(raw: unknown): string {
  if (typeof raw !== 'object' || raw === null) return '';
  const { kind, metadata } = raw as { kind?: unknown; metadata?: unknown };
  if (typeof kind !== 'string' || typeof metadata !== 'object' || metadata === null) return '';
  const { namespace, name } = metadata as { namespace?: unknown; name?: unknown };
  return typeof name === 'string' ? JSON.stringify([kind, namespace ?? '', name]) : '';
}
