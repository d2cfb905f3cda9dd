// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Pods' interfaces: finds each local pod's veth, puts the programs on it, and says what `endpoints` is
 * to hold. A pod whose interface is not found is not in the map, so that its traffic is dropped. Where the
 * node's interfaces cannot be read at all, pods that are in the map keep the interface that they have there.
 */

import { formatAddress } from '@tandem/core/net/ip';
import type { Diagnostic, EndpointDesired } from '@tandem/core/policy/desired';
import { tdEndpointFlag } from '@tandem/datapath/abi.gen';
import type { Datapath } from '@tandem/datapath/datapath';
import { decodeEndpoint, type Entry, encodeEndpoint } from '@tandem/datapath/encode';
import { InterfaceTable, type PodInterface, provokeNeighbor } from './interfaces.ts';

export interface AttachedEndpoint extends EndpointDesired {
  readonly interface: PodInterface;
}

export interface AttachResult {
  readonly endpoints: readonly AttachedEndpoint[];
  readonly entries: readonly Entry[];
  readonly diagnostics: readonly Diagnostic[];
}

/** Attaches to all interfaces that are there; never throws for one pod. */
export async function attachEndpoints(
  datapath: Datapath,
  desired: readonly EndpointDesired[],
): Promise<AttachResult> {
  const table = await InterfaceTable.read();
  const endpoints: AttachedEndpoint[] = [];
  const diagnostics: Diagnostic[] = table.problems.map(notRead);
  const attached = new Map<number, string | null>();
  for (const endpoint of desired) {
    const text = formatAddress(endpoint.address);
    const found =
      table.find(text, endpoint.interfaceName) ??
      (table.problems.length > 0 ? knownInterface(datapath, endpoint.address) : null);
    const subject = `Pod/${endpoint.pod.namespace}/${endpoint.pod.name}`;
    if (found === null) {
      // oxlint-disable-next-line no-await-in-loop -- one at a time: a burst of probes is no use
      await provokeNeighbor(endpoint.address, text);
      diagnostics.push(notFound(subject, text));
      continue;
    }
    let problem = attached.get(found.vethIfindex);
    if (problem === undefined) {
      problem = attach(datapath, found);
      attached.set(found.vethIfindex, problem);
    }
    if (problem === null) endpoints.push({ ...endpoint, interface: found });
    else diagnostics.push(notAttached(subject, found.name, problem));
  }
  return { endpoints, entries: endpoints.map(entryOf), diagnostics };
}

function attach(datapath: Datapath, { vethIfindex }: PodInterface): string | null {
  try {
    datapath.attachEndpoint(vethIfindex);
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** The interface of a pod that was attached before, from the kernel's map; null: it is not there. */
function knownInterface(datapath: Datapath, address: Uint8Array): PodInterface | null {
  const value = datapath.map('endpoints').lookup(address);
  if (value === null) return null;
  const { vethIfindex, l3Ifindex, bridgeMac, flags } = decodeEndpoint(value);
  const isBridged = (flags & tdEndpointFlag.BRIDGED) !== 0;
  return { name: `interface ${vethIfindex}`, vethIfindex, l3Ifindex, bridgeMac, isBridged };
}

function notRead(reason: string): Diagnostic {
  return {
    severity: 'error',
    code: 'interfaces-unreadable',
    subject: 'node',
    message: `interfaces of pods cannot be looked up: ${reason}; pods that are known keep theirs, traffic of others is dropped`,
  };
}

function entryOf(endpoint: AttachedEndpoint): Entry {
  const { interface: found } = endpoint;
  return encodeEndpoint(endpoint.address, {
    endpointId: endpoint.endpointId,
    policyId: endpoint.policyId,
    vethIfindex: found.vethIfindex,
    l3Ifindex: found.l3Ifindex,
    classId: endpoint.classId,
    flags: endpoint.flags | (found.isBridged ? tdEndpointFlag.BRIDGED : 0),
    namespaceId: endpoint.namespaceId,
    bridgeMac: found.bridgeMac,
  });
}

function notFound(subject: string, address: string): Diagnostic {
  return {
    severity: 'error',
    code: 'interface-not-found',
    subject,
    message: `no interface leads to ${address}, so its traffic is dropped: set the annotation tandem.dev/interface to the host side of its veth`,
  };
}

function notAttached(subject: string, name: string, problem: string): Diagnostic {
  return {
    severity: 'error',
    code: 'attach-failed',
    subject,
    message: `programs could not be attached to ${name}, so its traffic is dropped: ${problem}`,
  };
}
