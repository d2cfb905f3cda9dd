// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The cluster's state as it follows from objects of the API, kept object by object: what does not change is not
 * read again. An object that cannot be read stays as it last was, or counts as far as it can be read.
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
import { parseObject } from '@tandem/core/k8s/parse-object';
import { type Fields, isFields } from '@tandem/core/k8s/shape';
import type { ClusterState } from '@tandem/core/policy/cluster-state';
import type { Diagnostic } from '@tandem/core/policy/desired';
import type { Sandbox } from '../gate/sandboxes.ts';
import { type BuiltPolicyStates, PolicyBuilder } from '../policy/policy-builder.ts';
import type { ListName } from './kube-resources.ts';
import type { SourceObject } from './read-documents.ts';

/** Annotations by which kubelet names a static pod; its mirror in the API has another uid. */
const staticPodAnnotation = 'kubernetes.io/config.hash';

type PolicyList = Extract<ListName, `cilium${string}`>;
type Found = readonly [object: PolicyObject, source: SourceObject];

export interface KubeClusterOptions {
  readonly nodeName: string;
  /** Of a pod of this node, by its key and those of its uids that CNI may have been told. */
  readonly sandboxOf: (podKey: string, uids: readonly string[]) => Sandbox | undefined;
}

export class KubeCluster {
  readonly #o: KubeClusterOptions;
  readonly #namespaces = new Map<string, Namespace>();
  readonly #nodes = new Map<string, Node>();
  readonly #localPods = new Map<string, Pod>();
  /** Uids of static pods of this node, as CNI is told them. */
  readonly #staticUids = new Map<string, string>();
  readonly #remotePods = new Map<string, Pod>();
  readonly #services = new Map<string, Service>();
  readonly #endpointSlices = new Map<string, EndpointSlice>();
  readonly #policyObjects: Readonly<Record<PolicyList, Map<string, Found>>> = {
    ciliumnetworkpolicies: new Map(),
    ciliumclusterwidenetworkpolicies: new Map(),
  };
  /** What is wrong with objects, by list and key. */
  readonly #faults = new Map<ListName, Map<string, readonly Diagnostic[]>>();
  readonly #policies = new PolicyBuilder();
  /** Null: a policy changed since. */
  #built: BuiltPolicyStates | null = null;

  constructor(options: KubeClusterOptions) {
    this.#o = options;
  }

  set(list: ListName, key: string, raw: Fields): void {
    const parsed = parseObject(raw);
    const faults = this.#faultsOf(list);
    if (parsed.ok) {
      faults.delete(key);
      this.#put(list, key, parsed.value, raw);
      return;
    }
    const { subject, issues, partial } = parsed.error;
    faults.set(
      key,
      issues.map(({ path, message }) => ({
        severity: 'error',
        code: 'object-invalid',
        subject: `${subject}: ${path}`,
        message,
      })),
    );
    if (partial !== undefined && !this.#storeOf(list).has(key)) this.#put(list, key, partial, raw);
  }

  delete(list: ListName, key: string): void {
    this.#faultsOf(list).delete(key);
    this.#storeOf(list).delete(key);
    if (isPolicyList(list)) this.#built = null;
    if (list === 'pods of this node') this.#staticUids.delete(key);
  }

  /** Of a list only those of `keys` are there. */
  retain(list: ListName, keys: ReadonlySet<string>): void {
    const known = [...this.#storeOf(list).keys(), ...this.#faultsOf(list).keys()];
    for (const key of known) if (!keys.has(key)) this.delete(list, key);
  }

  /** Objects of a list. */
  sizeOf(list: ListName): number {
    return this.#storeOf(list).size;
  }

  /** As it is now; later changes do not show in it. */
  state(): ClusterState {
    this.#built ??= this.#policies.build(
      Object.values(this.#policyObjects).flatMap((objects) => [...objects.values()]),
    );
    const pods = new Map<string, Pod>(this.#remotePods);
    for (const [key, pod] of this.#localPods) pods.set(key, this.#placed(key, pod));
    return {
      namespaces: new Map(this.#namespaces),
      nodes: new Map(this.#nodes),
      pods,
      services: new Map(this.#services),
      endpointSlices: new Map(this.#endpointSlices),
      policies: this.#built.policies,
      diagnostics: [
        ...this.#built.diagnostics,
        ...[...this.#faults.values()].flatMap((faults) => [...faults.values()].flat()),
      ],
    };
  }

  /** With the addresses and the interface that CNI gave: the API has the addresses when ADD is over. */
  #placed(key: string, pod: Pod): Pod {
    if (pod.hostNetwork) return pod;
    const staticUid = this.#staticUids.get(key);
    const uids = staticUid === undefined ? [pod.uid] : [pod.uid, staticUid];
    const sandbox = this.#o.sandboxOf(key, uids);
    if (sandbox === undefined) return pod;
    const { addresses, interfaceName } = sandbox;
    return { ...pod, addresses, ...(interfaceName === null ? {} : { interfaceName }) };
  }

  #put(list: ListName, key: string, object: K8sObject, raw: Fields): void {
    switch (object.kind) {
      case 'Pod':
        this.#putPod(list, key, object, raw);
        return;
      case 'Namespace':
        this.#namespaces.set(key, object);
        return;
      case 'Node':
        this.#nodes.set(key, object);
        return;
      case 'Service':
        this.#services.set(key, object);
        return;
      case 'EndpointSlice':
        this.#endpointSlices.set(key, object);
        return;
      case 'unsupported':
        return;
      default:
        if (!isPolicyList(list)) return;
        this.#policyObjects[list].set(key, [object, sourceOf(object.kind, key, raw)]);
        this.#built = null;
    }
  }

  #putPod(list: ListName, key: string, object: Pod, raw: Fields): void {
    // Whoever may write a pod's annotations must not choose its interface.
    const { interfaceName: _, ...pod } = object;
    if (list !== 'pods of this node') {
      this.#remotePods.set(key, pod);
      return;
    }
    this.#localPods.set(key, pod);
    const staticUid = staticUidOf(raw);
    if (staticUid === undefined) this.#staticUids.delete(key);
    else this.#staticUids.set(key, staticUid);
  }

  #faultsOf(list: ListName): Map<string, readonly Diagnostic[]> {
    const found = this.#faults.get(list) ?? new Map<string, readonly Diagnostic[]>();
    this.#faults.set(list, found);
    return found;
  }

  #storeOf(list: ListName): Map<string, unknown> {
    switch (list) {
      case 'namespaces':
        return this.#namespaces;
      case 'nodes':
        return this.#nodes;
      case 'pods of this node':
        return this.#localPods;
      case 'pods of other nodes':
        return this.#remotePods;
      case 'services':
        return this.#services;
      case 'endpointslices':
        return this.#endpointSlices;
      default:
        return this.#policyObjects[list];
    }
  }
}

function isPolicyList(list: ListName): list is PolicyList {
  return list === 'ciliumnetworkpolicies' || list === 'ciliumclusterwidenetworkpolicies';
}

/** Objects of the API stand in no file. */
function sourceOf(kind: string, key: string, raw: Fields): SourceObject {
  return { file: `${kind} ${key}`, document: 1, line: 0, raw, damage: null };
}

function staticUidOf({ metadata }: Fields): string | undefined {
  const annotations = isFields(metadata) ? metadata['annotations'] : undefined;
  const hash = isFields(annotations) ? annotations[staticPodAnnotation] : undefined;
  return typeof hash === 'string' ? hash : undefined;
}
