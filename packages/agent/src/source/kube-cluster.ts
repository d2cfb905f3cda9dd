// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The cluster's state as it follows from objects of the API, kept object by object: what does not change is not
 * read again. An object that cannot be read stays as it last was, or counts as far as it can be read. Most events of a cluster
 * change no field that we read (conditions, heartbeats): they are no change.
 */

import { isDeepStrictEqual } from 'node:util';
import { ChangeMap } from '@tandem/core/change-map';
import { flatText } from '@tandem/core/flat-text';
import type {
  EndpointSlice,
  K8sObject,
  LocalRedirectPolicy,
  Namespace,
  Node,
  Pod,
  PolicyObject,
  Service,
} from '@tandem/core/k8s/objects';
import { parseObject } from '@tandem/core/k8s/parse-object';
import { type Fields, isFields } from '@tandem/core/k8s/shape';
import type { ClusterState, PolicyState } from '@tandem/core/policy/model/cluster-state';
import type { Diagnostic } from '@tandem/core/policy/model/desired';
import { formatPolicyRef } from '@tandem/core/policy/model/rule';
import type { Sandbox } from '../gate/sandboxes.ts';
import { PolicyBuilder } from '../policy/policy-builder.ts';
import { unsupportedKind } from '../policy/unsupported-kind.ts';
import {
  LabelSets,
  PackedAddresses,
  sharedAddresses,
  sharedPod,
  sharedPorts,
  sharedTexts,
} from './interned.ts';
import type { ListName } from './kube-resources.ts';

/** Annotations by which kubelet names a static pod; its mirror in the API has another uid. */
const staticPodAnnotation = 'kubernetes.io/config.hash';

type PolicyList = Extract<ListName, `${string}networkpolicies`>;

/** A policy object as JSON: as objects they all take ten times the memory. */
interface PolicyText {
  readonly ref: string;
  readonly text: string;
}

/** A pod of this node, and what it was made of. */
interface PlacedPod {
  readonly pod: Pod;
  readonly sandbox: Sandbox | undefined;
  readonly placed: Pod;
}

export interface KubeClusterOptions {
  readonly nodeName: string;
  /** Sandbox of a pod of this node, by its key and the uids by which CNI may have been called for it. */
  readonly sandboxOf: (podKey: string, uids: readonly string[]) => Sandbox | undefined;
  /** The object of a pod of this node is gone; `uids`: as for `sandboxOf`. */
  readonly podGone: (podKey: string, uids: readonly string[]) => void;
}

export class KubeCluster {
  readonly #o: KubeClusterOptions;
  readonly #namespaces = new ChangeMap<Namespace>();
  readonly #nodes = new ChangeMap<Node>();
  readonly #localPods = new Map<string, Pod>();
  /** Uids by which CNI knows static pods of this node, by the key of the mirror pod. */
  readonly #staticUids = new Map<string, string>();
  readonly #remotePods = new Map<string, Pod>();
  readonly #services = new ChangeMap<Service>();
  readonly #endpointSlices = new ChangeMap<EndpointSlice>();
  readonly #redirectPolicies = new ChangeMap<LocalRedirectPolicy>();
  /** Pods of this node with what CNI reported of them, and the other pods. */
  readonly #pods = new ChangeMap<Pod>();
  readonly #placedPods = new Map<string, PlacedPod>();
  readonly #policyStates = new ChangeMap<PolicyState>();
  readonly #policyObjects: Readonly<Record<PolicyList, Map<string, PolicyText>>> = {
    networkpolicies: new Map(),
    ciliumnetworkpolicies: new Map(),
    ciliumclusterwidenetworkpolicies: new Map(),
    clusternetworkpolicies: new Map(),
  };
  /** Faults of objects, by list and key. */
  readonly #faults = new Map<ListName, Map<string, readonly Diagnostic[]>>();
  readonly #policies = new PolicyBuilder();
  /** Parts that pods of other nodes share. */
  readonly #shared = {
    texts: sharedTexts(),
    labels: new LabelSets(),
    ports: sharedPorts(),
    addresses: new PackedAddresses(),
  };
  readonly #sliceAddresses = sharedAddresses();

  constructor(options: KubeClusterOptions) {
    this.#o = options;
  }

  /** Returns whether anything that we read of it is new. */
  set(list: ListName, name: string, raw: Fields): boolean {
    const key = flatText(name);
    const parsed = parseObject(raw);
    const faults = this.#faultsOf(list);
    if (parsed.ok && parsed.value.kind === 'unsupported') {
      // This version lists the kind, but cannot enforce it.
      const isKnown = faults.has(key);
      faults.set(key, [unsupportedKind(parsed.value)]);
      return !isKnown;
    }
    if (parsed.ok) {
      const isMended = faults.delete(key);
      return this.#put(list, key, parsed.value, raw) || isMended;
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
    return true;
  }

  /** Returns whether it was there. */
  delete(list: ListName, key: string): boolean {
    const former = this.#remotePods.get(key);
    if (list === 'pods of other nodes' && former !== undefined)
      this.#shared.labels.release(former.labels);
    if (list === 'pods of this node') {
      const pod = this.#localPods.get(key);
      if (pod !== undefined) this.#o.podGone(key, this.#uidsOf(key, pod));
      this.#staticUids.delete(key);
    }
    const wasFaulty = this.#faultsOf(list).delete(key);
    if (isPolicyList(list)) this.#forgetPolicy(list, key);
    const wasThere = this.#storeOf(list).delete(key);
    if (wasThere && list === 'pods of other nodes' && !this.#localPods.has(key)) {
      this.#pods.delete(key);
    }
    return wasThere || wasFaulty;
  }

  /** Keeps only the objects of a list with these keys. Returns whether others were removed. */
  retain(list: ListName, keys: ReadonlySet<string>): boolean {
    const known = [...this.#storeOf(list).keys(), ...this.#faultsOf(list).keys()];
    const gone = known.filter((key) => !keys.has(key));
    for (const key of gone) this.delete(list, key);
    return gone.length > 0;
  }

  /** Different label sets of pods of other nodes. */
  get labelSets(): number {
    return this.#shared.labels.size;
  }

  /** Objects of a list. */
  sizeOf(list: ListName): number {
    return this.#storeOf(list).size;
  }

  /** As it is now. Its maps are this object's own, and say what changed: they are to be read at once. */
  state(): ClusterState {
    this.#placePods();
    return {
      namespaces: this.#namespaces,
      nodes: this.#nodes,
      pods: this.#pods,
      services: this.#services,
      endpointSlices: this.#endpointSlices,
      redirectPolicies: this.#redirectPolicies,
      policies: this.#policyStates,
      diagnostics: [...this.#faults.values()].flatMap((faults) => [...faults.values()].flat()),
    };
  }

  #placePods(): void {
    for (const key of this.#placedPods.keys()) {
      if (this.#localPods.has(key)) continue;
      this.#placedPods.delete(key);
      const other = this.#remotePods.get(key);
      if (other === undefined) this.#pods.delete(key);
      else this.#pods.set(key, other);
    }
    for (const [key, pod] of this.#localPods) {
      const sandbox = pod.hostNetwork ? undefined : this.#o.sandboxOf(key, this.#uidsOf(key, pod));
      const known = this.#placedPods.get(key);
      if (known?.pod === pod && known.sandbox === sandbox) continue;
      const placed = placedPod(pod, sandbox);
      this.#placedPods.set(key, { pod, sandbox, placed });
      this.#pods.set(key, placed);
    }
  }

  /** Uids by which CNI may know a pod of this node. */
  #uidsOf(key: string, { uid }: Pod): readonly string[] {
    const staticUid = this.#staticUids.get(key);
    return staticUid === undefined ? [uid] : [uid, staticUid];
  }

  /** Returns whether it is new. */
  #put(list: ListName, key: string, object: K8sObject, raw: Fields): boolean {
    switch (object.kind) {
      case 'Pod':
        return this.#putPod(list, key, object, raw);
      case 'Namespace':
        return replace(this.#namespaces, key, object);
      case 'Node':
        return replace(this.#nodes, key, object);
      case 'Service':
        return replace(this.#services, key, object);
      case 'EndpointSlice':
        return this.#putSlice(key, object);
      case 'CiliumLocalRedirectPolicy':
        return replace(this.#redirectPolicies, key, object);
      case 'unsupported':
        return false;
      default:
        return isPolicyList(list) && this.#putPolicy(list, key, object);
    }
  }

  #putPolicy(list: PolicyList, key: string, object: PolicyObject): boolean {
    const objects = this.#policyObjects[list];
    const former = objects.get(key);
    const text = JSON.stringify(object);
    if (former?.text === text) return false;
    const ref = flatText(formatPolicyRef(object));
    if (former !== undefined && former.ref !== ref) this.#forgetPolicy(list, key);
    objects.set(key, { ref, text });
    const place = flatText(`${object.kind} ${key}`);
    this.#policyStates.set(ref, this.#policies.one(ref, object, text, place));
    return true;
  }

  #forgetPolicy(list: PolicyList, key: string): void {
    const former = this.#policyObjects[list].get(key);
    if (former === undefined) return;
    const { ref } = former;
    this.#policyStates.delete(ref);
    this.#policies.forget(ref);
  }

  #putSlice(key: string, slice: EndpointSlice): boolean {
    if (isDeepStrictEqual(this.#endpointSlices.get(key), slice)) return false;
    const endpoints = slice.endpoints.map((each) => ({
      ...each,
      address: this.#sliceAddresses.shared(each.address),
    }));
    this.#endpointSlices.set(key, { ...slice, endpoints });
    return true;
  }

  #putPod(list: ListName, key: string, object: Pod, raw: Fields): boolean {
    // A user who may write a pod's annotations must not choose its interface.
    const { interfaceName: _, ...pod } = object;
    if (list !== 'pods of this node') {
      // Whether it is ready is nothing here, and changes all the time.
      const { isReady: __, ...remote } = pod;
      return this.#putRemotePod(key, remote);
    }
    const staticUid = staticUidOf(raw);
    const former = this.#localPods.get(key);
    // A list that is read again has the pod of this name without the deletion of the former one.
    if (former !== undefined && former.uid !== pod.uid) {
      const uids = this.#uidsOf(key, former).filter((uid) => uid !== pod.uid && uid !== staticUid);
      this.#o.podGone(key, uids);
    }
    const isNew = this.#staticUids.get(key) !== staticUid;
    if (staticUid === undefined) this.#staticUids.delete(key);
    else this.#staticUids.set(key, staticUid);
    return replace(this.#localPods, key, pod) || isNew;
  }

  #putRemotePod(key: string, pod: Pod): boolean {
    const former = this.#remotePods.get(key);
    if (isDeepStrictEqual(former, pod)) return false;
    if (former !== undefined) this.#shared.labels.release(former.labels);
    const shared = sharedPod(pod, this.#shared);
    this.#remotePods.set(key, shared);
    if (!this.#localPods.has(key)) this.#pods.set(key, shared);
    return true;
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
      case 'ciliumlocalredirectpolicies':
        return this.#redirectPolicies;
      default:
        return this.#policyObjects[list];
    }
  }
}

/** With the addresses and the interface that CNI gave: the API has the addresses when ADD is over. */
function placedPod(pod: Pod, sandbox: Sandbox | undefined): Pod {
  if (sandbox === undefined) return pod;
  const { addresses, containerId: sandboxId, interfaceName } = sandbox;
  return { ...pod, addresses, sandboxId, ...(interfaceName === null ? {} : { interfaceName }) };
}

/** Returns whether that is news. */
function replace<T>(objects: Map<string, T>, key: string, object: T): boolean {
  if (isDeepStrictEqual(objects.get(key), object)) return false;
  objects.set(key, object);
  return true;
}

function isPolicyList(list: ListName): list is PolicyList {
  return list.endsWith('networkpolicies');
}

function staticUidOf({ metadata }: Fields): string | undefined {
  const annotations = isFields(metadata) ? metadata['annotations'] : undefined;
  const hash = isFields(annotations) ? annotations[staticPodAnnotation] : undefined;
  return typeof hash === 'string' ? hash : undefined;
}
