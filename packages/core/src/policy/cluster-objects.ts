// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The cluster as a source of objects builds it up, one object at a time. What cannot be read does not
 * replace what could: a broken object keeps its last good version in force, and is named in a
 * diagnostic until a good one comes or it is deleted.
 */
import {
  type EndpointSlice,
  type K8sObject,
  type Namespace,
  type Node,
  objectKey,
  type Pod,
  type PolicyObject,
  type Service,
  type UnsupportedObject,
} from '../k8s/objects.ts';
import { type ObjectError, parseObject } from '../k8s/parse-object.ts';
import type { Result } from '../result.ts';
import type { ClusterState, PolicyState } from './cluster-state.ts';
import type { Diagnostic } from './desired.ts';
import { parseCiliumPolicy } from './parse-cilium.ts';
import { formatPolicyRef, type InvalidPolicy, type Policy } from './rule.ts';

/** Names an object that was applied, so that it can be deleted. */
export interface ObjectRef {
  readonly kind: K8sObject['kind'];
  readonly key: string;
}

export class ClusterObjects {
  readonly #namespaces = new Map<string, Namespace>();
  readonly #nodes = new Map<string, Node>();
  readonly #pods = new Map<string, Pod>();
  readonly #services = new Map<string, Service>();
  readonly #endpointSlices = new Map<string, EndpointSlice>();
  readonly #policies = new Map<string, PolicyState>();
  readonly #unsupported = new Map<string, Diagnostic>();
  readonly #broken = new Map<string, readonly Diagnostic[]>();

  /**
   * Adds or replaces one object. `origin` says where it came from (file and position, or kind and name)
   * and is what its diagnostics are kept under while it cannot be read.
   */
  apply(raw: unknown, origin: string): Result<ObjectRef, ObjectError> {
    const parsed = parseObject(raw);
    if (!parsed.ok) {
      const diagnostics = parsed.error.issues.map(
        ({ path, message }): Diagnostic => ({
          severity: 'error',
          code: 'object-invalid',
          subject: `${parsed.error.subject} (${origin})`,
          message: `${path} ${message}; the last version that could be read stays in force`.trim(),
        }),
      );
      this.#broken.set(origin, diagnostics);
      return parsed;
    }
    this.#broken.delete(origin);
    return { ok: true, value: this.#store(parsed.value) };
  }

  /** Removes an object; one that is not there is no error. */
  delete({ kind, key }: ObjectRef): void {
    this.#mapOf(kind).delete(key);
  }

  /** Forgets that the object of this origin could not be read: the origin is gone. */
  forget(origin: string): void {
    this.#broken.delete(origin);
  }

  /** A copy: later changes do not reach it. */
  snapshot(): ClusterState {
    return {
      namespaces: new Map(this.#namespaces),
      nodes: new Map(this.#nodes),
      pods: new Map(this.#pods),
      services: new Map(this.#services),
      endpointSlices: new Map(this.#endpointSlices),
      policies: new Map(this.#policies),
      diagnostics: [...this.#unsupported.values(), ...[...this.#broken.values()].flat()],
    };
  }

  #store(object: K8sObject): ObjectRef {
    const key = keyOf(object);
    switch (object.kind) {
      case 'Namespace':
        this.#namespaces.set(key, object);
        break;
      case 'Node':
        this.#nodes.set(key, object);
        break;
      case 'Pod':
        this.#pods.set(key, object);
        break;
      case 'Service':
        this.#services.set(key, object);
        break;
      case 'EndpointSlice':
        this.#endpointSlices.set(key, object);
        break;
      case 'unsupported':
        this.#unsupported.set(key, unsupportedDiagnostic(object));
        break;
      case 'CiliumNetworkPolicy':
      case 'CiliumClusterwideNetworkPolicy':
        this.#policies.set(
          key,
          nextPolicyState(this.#policies.get(key), parseCiliumPolicy(object)),
        );
        break;
    }
    return { kind: object.kind, key };
  }

  #mapOf(kind: K8sObject['kind']): Map<string, unknown> {
    switch (kind) {
      case 'Namespace':
        return this.#namespaces;
      case 'Node':
        return this.#nodes;
      case 'Pod':
        return this.#pods;
      case 'Service':
        return this.#services;
      case 'EndpointSlice':
        return this.#endpointSlices;
      case 'unsupported':
        return this.#unsupported;
      case 'CiliumNetworkPolicy':
      case 'CiliumClusterwideNetworkPolicy':
        return this.#policies;
    }
  }
}

/** The fate of a policy object whose new version was read: an invalid one leaves the last good in force. */
export function nextPolicyState(
  previous: PolicyState | undefined,
  parsed: Result<Policy, InvalidPolicy>,
): PolicyState {
  if (parsed.ok) return { inForce: parsed.value, invalid: null };
  return { inForce: previous?.inForce ?? null, invalid: parsed.error };
}

function keyOf(object: K8sObject): string {
  if (isPolicy(object)) {
    const namespace = object.kind === 'CiliumNetworkPolicy' ? object.namespace : '';
    return formatPolicyRef({ kind: object.kind, namespace, name: object.name });
  }
  const key = objectKey(object);
  return object.kind === 'unsupported' ? `${object.originalKind}/${key}` : key;
}

function isPolicy(object: K8sObject): object is PolicyObject {
  return object.kind === 'CiliumNetworkPolicy' || object.kind === 'CiliumClusterwideNetworkPolicy';
}

function unsupportedDiagnostic(object: UnsupportedObject): Diagnostic {
  const consequence = object.isPolicy
    ? 'it is NOT enforced. Express it as a CiliumNetworkPolicy'
    : 'it is ignored';
  return {
    severity: object.isPolicy ? 'error' : 'warning',
    code: 'kind-unsupported',
    subject: `${object.originalKind}/${objectKey(object)}`,
    message: `${object.apiVersion} ${object.originalKind} is not supported: ${consequence}`,
  };
}
