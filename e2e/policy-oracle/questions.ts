// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Questions for each set of policies: every pod of the node, each direction, every peer of the family, the ports at edges. */

import { namespaces, others, type PodFixture, type Protocol, pods } from './cluster.ts';

export interface Question {
  readonly direction: 'ingress' | 'egress';
  /** Address of the pod whose policies are asked. */
  readonly ip: string;
  readonly peer: string;
  readonly protocol: Protocol;
  readonly port: number;
}

/** As e2e/policy-oracle/main.go reads it. */
export interface OracleQuestion {
  readonly isIngress: boolean;
  readonly source: OraclePeer;
  readonly destination: OraclePeer;
  readonly port: number;
  readonly portNames: readonly string[];
  readonly protocol: Protocol;
}

interface OraclePeer {
  readonly IP: string;
  readonly Internal?: {
    readonly Namespace: string;
    readonly NamespaceLabels: Readonly<Record<string, string>>;
    readonly PodLabels: Readonly<Record<string, string>>;
  };
}

const services: readonly (readonly [Protocol, number])[] = [
  ...(['TCP', 'UDP', 'SCTP'] as const).map((protocol) => [protocol, 80] as const),
  ...[53, 79, 81, 443, 8080, 8081, 65_535].map((port) => ['TCP', port] as const),
  ...[1, 53, 54].map((port) => ['UDP', port] as const),
  ['SCTP', 8080],
];

const isIpv6 = (ip: string): boolean => ip.includes(':');
const owners: ReadonlyMap<string, PodFixture> = new Map(
  pods.flatMap((pod) => pod.ips.map((ip) => [ip, pod] as const)),
);

export const questions: readonly Question[] = pods
  .filter(({ isLocal }) => isLocal)
  .flatMap(({ ips }) => ips)
  .flatMap((ip) =>
    [...owners.keys(), ...others]
      // A pod's own packets to itself never leave it.
      .filter((peer) => isIpv6(peer) === isIpv6(ip) && owners.get(peer) !== owners.get(ip))
      .flatMap((peer) =>
        (['ingress', 'egress'] as const).flatMap((direction) =>
          services.map(([protocol, port]) => ({ direction, ip, peer, protocol, port })),
        ),
      ),
  );

export function oracleQuestion(question: Question): OracleQuestion {
  const { direction, ip, peer, protocol, port } = question;
  const isIngress = direction === 'ingress';
  const [source, destination] = isIngress ? [peer, ip] : [ip, peer];
  const portNames = (owners.get(destination)?.ports ?? [])
    .filter((each) => each.number === port && each.protocol === protocol)
    .map(({ name }) => name);
  return {
    ...{ isIngress, port, portNames, protocol },
    source: oraclePeer(source),
    destination: oraclePeer(destination),
  };
}

function oraclePeer(ip: string): OraclePeer {
  const pod = owners.get(ip);
  if (pod === undefined) return { IP: ip };
  const { namespace, labels } = pod;
  return {
    IP: ip,
    Internal: {
      Namespace: namespace,
      NamespaceLabels: namespaces[namespace] ?? {},
      PodLabels: labels,
    },
  };
}
