// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Options of the agent. */

import { formatPrefix, type Prefix } from '@tandem/core/net/ip';
import { defaultRedirectNamespaces } from '@tandem/core/policy/dns/redirects';
import { TD_NAT64_MAX } from '@tandem/datapath/abi.gen';
import { isNat64Prefix } from '@tandem/datapath/config';
import {
  absolutePath,
  checkMemberConfig,
  type MemberConfig,
  memberOptions,
  pathOrNothing,
} from '@tandem/dns-proxy/config';
import type { ConfigSpec } from '@tandem/runtime/config';
import {
  boolOption,
  intOption,
  ipOption,
  listOption,
  type Option,
  prefixOption,
  stringOption,
} from '@tandem/runtime/config-option';

export interface AgentConfig extends MemberConfig {
  /** `directory:DIR` or `kubernetes`. */
  readonly source: string;
  readonly kubeconfig: string;
  readonly nodeName: string;
  readonly clusterName: string;
  readonly podCidrs: readonly Prefix[];
  readonly clusterCidrs: readonly Prefix[];
  readonly serviceCidrs: readonly Prefix[];
  readonly nat64Prefixes: readonly Prefix[];
  readonly clusterResolvers: readonly Uint8Array[];
  readonly nodeLocalDns: readonly Uint8Array[];
  readonly redirectNamespaces: readonly string[];
  readonly podBridges: readonly string[];
  readonly trustedInterfaces: readonly string[];
  readonly tunnelPorts: readonly number[];
  readonly tcpConnectsPerSecond: number;
  readonly routingTable: number;
  readonly rulePriority: number;
  readonly quotaNamespace: number;
  readonly quotaSelector: number;
  readonly cgroupPath: string;
  readonly bpfObject: string;
  readonly cniConfDir: string;
  readonly cniBinDir: string;
  readonly cniResultsDir: string;
  readonly gateProgram: string;
  readonly removeOnStop: boolean;
}

/** Linux: 15 bytes, no space, no slash. */
const interfaceName = { pattern: { test: /^[^\s/]{1,15}$/, range: 'a name of an interface' } };

const prefixList = (description: string): Option<readonly Prefix[]> =>
  listOption(prefixOption({ group: 'Cluster', description }), { default: [] });
const addressList = (description: string): Option<readonly Uint8Array[]> =>
  listOption(ipOption({ group: 'Cluster', description }), { default: [] });

export const agentConfigSpec: ConfigSpec<AgentConfig> = {
  program: 'tandem-agent',
  description:
    "Tandem's agent: owns the node's eBPF datapath and policy, and serves DNS beside the proxy. `tandem-agent remove` takes Tandem from the node.",
  options: {
    source: stringOption({
      group: 'Cluster',
      description:
        'Source of objects: kubernetes for the Kubernetes API, or directory:DIR for YAML files, which are watched.',
      pattern: {
        test: /^(kubernetes$|directory:\/.+)/,
        range: 'kubernetes, or directory:DIR with an absolute DIR',
      },
    }),
    kubeconfig: stringOption({
      group: 'Cluster',
      description:
        'File (kubeconfig) for the Kubernetes API, for an agent outside of a pod; empty: the service account of this pod.',
      default: '',
    }),
    nodeName: stringOption({
      group: 'Cluster',
      description: 'Name of this node: its Node object and the spec.nodeName of its pods.',
      // The empty one is that of pods without a node.
      pattern: { test: /^[^\s/,]{1,253}$/, range: 'a name of a node' },
    }),
    clusterName: stringOption({
      group: 'Cluster',
      description:
        'Name of this cluster: the value of the label io.cilium.k8s.policy.cluster of all pods.',
      default: 'default',
    }),
    podCidrs: prefixList('Pod CIDRs of this node; default: those of its Node object.'),
    clusterCidrs: prefixList('Pod CIDRs of the cluster beyond those of the Node objects.'),
    serviceCidrs: prefixList('Service CIDRs: their addresses are never learned from DNS.'),
    nat64Prefixes: listOption(
      prefixOption({
        group: 'Cluster',
        description:
          'IPv6 prefixes of NAT64 gateways beside 64:ff9b::/96, of 32, 40, 48, 56, 64 or 96 bits (RFC 6052): an address in them that leads to an IPv4 address of the cluster is never learned from DNS.',
      }),
      { default: [], itemsMax: TD_NAT64_MAX },
    ),
    clusterResolvers: addressList(
      'DNS servers, as pods see them, whose answers count for every policy; default: the Services of kube-system for kube-dns (docs/policy.md, DNS servers) and nodeLocalDns.',
    ),
    nodeLocalDns: addressList(
      'Addresses of the node-local DNS cache: it stands for the pods of the cluster DNS in rules, and its answers count for every policy.',
    ),
    redirectNamespaces: listOption(
      stringOption({
        group: 'Cluster',
        description:
          'Namespaces whose CiliumLocalRedirectPolicies may match an address (addressMatcher), which takes the traffic of all pods of the node to it. Policies of any namespace may match Services of their own.',
        pattern: { test: /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, range: 'a name of a namespace' },
      }),
      { default: defaultRedirectNamespaces, itemsMax: 64 },
    ),
    ...memberOptions,
    podBridges: listOption(
      stringOption({
        group: 'Datapath',
        description:
          'Names of bridges to which a CNI connects pods. Traffic of a port of such a bridge is dropped while no known pod is behind it.',
        ...interfaceName,
      }),
      { default: ['cni0', 'cbr0', 'kube-bridge', 'weave'], itemsMax: 32 },
    ),
    trustedInterfaces: listOption(
      stringOption({
        group: 'Datapath',
        description:
          'Names of veths that belong to no pod, such as uplinks and containers of other software: their traffic passes without policy. A veth with a route through a gateway needs no name here, unless a router advertisement made the route.',
        ...interfaceName,
      }),
      { default: [], itemsMax: 256 },
    ),
    tunnelPorts: listOption(
      intOption({
        group: 'Datapath',
        description:
          'UDP ports of tunnels (VXLAN, Geneve, FOU) on nodes: pods may not send to them. Ports of tunnel interfaces of this node are closed too. Add ports beyond the default ones to net.ipv4.ip_local_reserved_ports of each node, so that no DNS query is sent from one: its answer would be dropped.',
        min: 1,
        max: 65_535,
      }),
      // VXLAN (RFC 7348; flannel and Linux; Weave; Submariner; Antrea's STT is TCP), Geneve (RFC 8926), FOU of kube-router. From these no query
      // is sent (packages/dns-sockets/native/upstream.c).
      { default: [4789, 8472, 6784, 4800, 6081, 5555], itemsMax: 64 },
    ),
    tcpConnectsPerSecond: intOption({
      group: 'Datapath',
      description:
        'TCP connections to DNS servers that one pod may open per second, and the size of a burst. A SYN beyond that is dropped; the client sends it again after a second.',
      default: 1000,
      min: 1,
      max: 10_000_000,
    }),
    routingTable: intOption({
      group: 'Datapath',
      description: 'Routing table for steered DNS packets.',
      default: 2077,
      min: 1,
      max: 4_294_967_295,
    }),
    rulePriority: intOption({
      group: 'Datapath',
      description: 'Priority of the routing rules for steered DNS packets.',
      default: 9,
      min: 1,
      max: 32_765,
    }),
    quotaNamespace: intOption({
      group: 'Datapath',
      description:
        'Limit of learned (address, selector) pairs of one namespace. At the limit a new pair replaces the oldest one of the namespace.',
      default: 16_384,
      min: 1,
      max: 1_000_000,
    }),
    quotaSelector: intOption({
      group: 'Datapath',
      description:
        'Learned addresses of one FQDN selector. Only the previous version reads it, after a rollback; this version has no such limit.',
      default: 16_384,
      min: 1,
      max: 1_000_000,
    }),
    cgroupPath: stringOption({
      group: 'Datapath',
      description:
        'Mount point of cgroup v2. A program attached there keeps other processes from binding port P. auto: found in /proc/self/mountinfo; empty: no such guard.',
      default: 'auto',
      pattern: { test: /^(auto|\/.*)?$/, range: 'auto, an absolute path, or empty' },
    }),
    bpfObject: stringOption({
      group: 'Datapath',
      description: 'Object file of the BPF programs; empty: the one beside this program.',
      default: '',
      pattern: pathOrNothing,
    }),
    cniConfDir: stringOption({
      group: 'Datapath',
      description:
        'Directory from which the container runtime reads CNI configurations. The agent puts the CNI gate there, as 00-tandem.conflist, which holds the start of pods; empty: no gate.',
      default: '',
      pattern: pathOrNothing,
    }),
    cniBinDir: stringOption({
      group: 'Datapath',
      description: 'Directory in which the container runtime looks for CNI plugins.',
      default: '/opt/cni/bin',
      pattern: absolutePath,
    }),
    cniResultsDir: stringOption({
      group: 'Datapath',
      description:
        'Directory in which the container runtime keeps results of CNI: they name the interfaces of pods that already run.',
      default: '/var/lib/cni/results',
      pattern: absolutePath,
    }),
    gateProgram: stringOption({
      group: 'Datapath',
      description:
        'File of the CNI gate that is installed as plugin tandem-gate; empty: the one beside this program.',
      default: '',
      pattern: pathOrNothing,
    }),
    removeOnStop: boolOption({
      group: 'Datapath',
      description:
        'Remove programs, rules, routes and the CNI gate when the agent stops, for uninstalling. Policy ends then.',
      default: false,
    }),
  },
  check: (config) => [...checkMemberConfig(config), ...nat64Problems(config)],
};

function nat64Problems({ nat64Prefixes }: AgentConfig): readonly string[] {
  return nat64Prefixes
    .filter((prefix) => !isNat64Prefix(prefix))
    .map(
      (prefix) =>
        `nat64Prefixes must be IPv6 prefixes of 32, 40, 48, 56, 64 or 96 bits: ${formatPrefix(prefix)} is none`,
    );
}
