// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The endpoints of this node: each address of each local pod with its policy, its class and its ids. */

import { noPolicy } from '../../ids.ts';
import type { Pod } from '../../k8s/objects.ts';
import { compareAddresses } from '../../net/ip.ts';
import { digest128 } from '../../sha256.ts';
import type { LocalPod } from '../classes/address-owners.ts';
import type { AddressClasses } from '../classes/classes.ts';
import type { CompiledPolicy, EndpointDesired } from '../model/desired.ts';
import type { IdSession } from '../model/id-session.ts';
import { EndpointFlag } from '../model/kernel-numbers.ts';
import { sameAs } from '../model/same-as.ts';

/** A pod that has endpoints, by namespace, name and uid. */
interface KnownPod {
  readonly digest: string;
  readonly namespaceDigest: string;
  endpoints: readonly EndpointDesired[];
}

export class EndpointTable {
  #pods: ReadonlyMap<string, KnownPod> = new Map();
  #endpoints: readonly EndpointDesired[] = [];

  /** Sorted by address; an unchanged entry is the same object as before. `policyOf` null: the pod is held. */
  update(
    localPods: readonly LocalPod[],
    policyOf: (local: LocalPod) => CompiledPolicy | null,
    classes: AddressClasses,
    ids: IdSession,
  ): readonly EndpointDesired[] {
    const former = this.#pods;
    const pods = new Map<string, KnownPod>();
    for (const { pod } of localPods) {
      const key = keyOf(pod);
      const known = former.get(key) ?? {
        digest: digest128(key),
        namespaceDigest: digest128(pod.namespace),
        endpoints: [],
      };
      // Several objects may claim to be one pod.
      if (!pods.has(key) && !former.has(key)) {
        ids.use('endpoint', known.digest);
        ids.use('namespace', known.namespaceDigest);
      }
      if (!pods.has(key)) pods.set(key, known);
    }
    for (const [key, { digest, namespaceDigest }] of former) {
      if (pods.has(key)) continue;
      ids.release('endpoint', digest);
      ids.release('namespace', namespaceDigest);
    }
    ids.settle('endpoint');
    ids.settle('namespace');
    this.#pods = pods;
    const endpoints: EndpointDesired[] = [];
    for (const local of localPods) {
      const { pod } = local;
      const known = pods.get(keyOf(pod)) as KnownPod;
      known.endpoints = endpointsOf(local, known, policyOf(local), classes, ids);
      endpoints.push(...known.endpoints);
    }
    endpoints.sort((left, right) => compareAddresses(left.address, right.address));
    this.#endpoints = sameAs(this.#endpoints, endpoints);
    return this.#endpoints;
  }
}

const keys = new WeakMap<Pod, string>();

function keyOf(pod: Pod): string {
  let key = keys.get(pod);
  if (key === undefined) keys.set(pod, (key = `${pod.namespace}/${pod.name}/${pod.uid}`));
  return key;
}

function endpointsOf(
  { pod, addresses }: LocalPod,
  known: KnownPod,
  policy: CompiledPolicy | null,
  classes: AddressClasses,
  ids: IdSession,
): readonly EndpointDesired[] {
  const endpointId = ids.idOf('endpoint', known.digest);
  const namespaceId = ids.idOf('namespace', known.namespaceDigest);
  const policyId = policy?.id ?? noPolicy;
  const flags = policy?.flags ?? EndpointFlag.hold;
  return addresses.map((address, index) => {
    const { classId } = classes.at(address);
    const former = known.endpoints[index];
    const isSame =
      former !== undefined &&
      former.address === address &&
      former.endpointId === endpointId &&
      former.policyId === policyId &&
      former.classId === classId &&
      former.flags === flags &&
      former.namespaceId === namespaceId &&
      former.interfaceName === pod.interfaceName &&
      former.sandboxId === pod.sandboxId;
    if (isSame) return former;
    return {
      ...{ address, endpointId },
      pod: { namespace: pod.namespace, name: pod.name, uid: pod.uid },
      ...{ policyId, classId, flags, namespaceId },
      ...(pod.interfaceName === undefined ? {} : { interfaceName: pod.interfaceName }),
      ...(pod.sandboxId === undefined ? {} : { sandboxId: pod.sandboxId }),
    };
  });
}
