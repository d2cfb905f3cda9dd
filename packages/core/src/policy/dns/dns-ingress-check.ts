// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Ingress policy of the cluster's DNS servers that does not admit nodes. Members ask a server from the address of their own
 * node, not from that of the pod. A policy that admits pods alone drops these queries, so pods with DNS rules on other nodes
 * get no answers. The agent of the server's node warns, because there the policy is known.
 */

import type { Service } from '../../k8s/objects.ts';
import { addressKey, formatAddress, isIpv4 } from '../../net/ip.ts';
import type { LocalPod } from '../classes/address-owners.ts';
import type { AddressClasses } from '../classes/classes.ts';
import type { ClusterState, NodeContext } from '../model/cluster-state.ts';
import type { Diagnostic } from '../model/desired.ts';
import { Direction, EndpointFlag, Verdict } from '../model/kernel-numbers.ts';
import type { PolicyDraft } from '../model/policy-set.ts';
import { backendAddresses, protocolNumber, type SlicesByService } from './dns-frontends.ts';
import { coversPort } from './dns-judge.ts';
import { StatementIndex, type Who } from './statement-index.ts';

/** An address and port of a pod behind a Service of the cluster's DNS. */
export interface DnsPod {
  readonly address: Uint8Array;
  readonly port: number;
  readonly protocol: 6 | 17;
}

/** The pods behind port 53 of these Services. */
export function dnsPodsOf(
  services: readonly Service[],
  slices: SlicesByService,
): readonly DnsPod[] {
  return services.flatMap(({ namespace, name, ports }) =>
    (slices.get(`${namespace}/${name}`) ?? []).flatMap((slice) =>
      ports.flatMap((port) => {
        const protocol = protocolNumber(port.protocol);
        if (protocol === null || port.port !== 53) return [];
        return backendAddresses(slice, port.name, port.protocol).map((backend) => ({
          ...{ address: backend.address, port: backend.port, protocol },
        }));
      }),
    ),
  );
}

export interface DnsIngress {
  readonly dnsPods: readonly DnsPod[];
  readonly localPods: readonly LocalPod[];
  readonly draftOf: (local: LocalPod) => PolicyDraft;
  readonly classes: AddressClasses;
}

/** One warning for each DNS pod of this node to which its policy does not let another node's queries. */
export function dnsIngressDiagnostics(
  { nodes }: ClusterState,
  { nodeName }: NodeContext,
  { dnsPods, localPods, draftOf, classes }: DnsIngress,
): readonly Diagnostic[] {
  if (dnsPods.length === 0 || nodes.size < 2) return [];
  const locals = new Map(
    localPods.flatMap((local) => local.addresses.map((address) => [addressKey(address), local])),
  );
  const found = new Map<string, Diagnostic>();
  for (const { address, port, protocol } of dnsPods) {
    const local = locals.get(addressKey(address));
    if (local === undefined) continue;
    const { flags, statements } = draftOf(local);
    if ((flags & EndpointFlag.enforceIngress) === 0) continue;
    const subject = `Pod/${local.pod.namespace}/${local.pod.name}`;
    const ingress = new StatementIndex(
      statements.filter(
        (each) => each.direction === Direction.ingress && coversPort(each, protocol, port),
      ),
    );
    for (const node of nodes.values()) {
      if (node.name === nodeName || found.has(subject)) continue;
      const other = node.addresses.find((each) => isIpv4(each) === isIpv4(address));
      if (other === undefined || admits(ingress, whoIs(other, classes))) continue;
      const from = `${formatAddress(other)} of node ${node.name}`;
      found.set(subject, {
        severity: 'warning',
        code: 'dns-ingress-nodes',
        subject,
        message: messageOf(from, port),
      });
    }
  }
  return [...found.values()];
}

function whoIs(address: Uint8Array, classes: AddressClasses): Who {
  const { classId } = classes.at(address);
  return { id: classId, selectors: new Set(classes.table.selectorsOf.get(classId)) };
}

function admits(ingress: StatementIndex, who: Who): boolean {
  const holding = ingress.covering(who);
  return holding.length > 0 && !holding.some(({ verdict }) => verdict === Verdict.deny);
}

function messageOf(from: string, port: number): string {
  return (
    `its ingress policy does not admit ${from} to port ${port}: queries of pods with DNS rules on other nodes come from ` +
    'the address of their node, and are dropped. Allow the nodes: fromEntities: [remote-node], or an ipBlock with their addresses'
  );
}
