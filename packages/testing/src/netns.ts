// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A Kubernetes node made of network namespaces: the node, its pods, a remote node and the upstream
 * network, with kube-proxy's rules. `node-plan.ts` draws it. Disposing the node ends what it owns and
 * removes all of it.
 */

import { iptablesRules, nftablesRules, type ServiceSpec } from './kube-proxy.ts';
import { Namespace } from './namespace.ts';
import {
  hostSideCommands,
  type NodeLocalAddress,
  type NodeSpec,
  type PodPlan,
  type PodSpec,
  plan,
  planPods,
  podSideCommands,
} from './node-plan.ts';

export interface Pod extends PodPlan {
  readonly namespace: Namespace;
  readonly mac: string;
  /** Of the node's end of the veth. */
  readonly hostIfindex: number;
  readonly hostMac: string;
  /** Where the pod's packets go at layer 2: the veth's other end, or the bridge. */
  readonly gatewayMac: string;
}

interface LinkInfo {
  readonly ifname: string;
  readonly ifindex: number;
  readonly address: string;
}

export class TestNode implements AsyncDisposable {
  readonly node: Namespace;
  readonly remote: Namespace;
  readonly upstream: Namespace;
  readonly kubeProxy: 'iptables' | 'nftables' | 'none';
  readonly #pods = new Map<string, Pod>();
  readonly #resources: AsyncDisposable[] = [];

  constructor(
    namespaces: { node: Namespace; remote: Namespace; upstream: Namespace },
    spec: NodeSpec,
  ) {
    this.node = namespaces.node;
    this.remote = namespaces.remote;
    this.upstream = namespaces.upstream;
    this.kubeProxy = spec.kubeProxy ?? 'iptables';
  }

  get pods(): readonly Pod[] {
    return [...this.#pods.values()];
  }

  pod(name: string): Pod {
    const pod = this.#pods.get(name);
    if (pod === undefined) throw new Error(`the node has no pod ${name}`);
    return pod;
  }

  /** Ends `resource` (a probe, a server) before the namespaces go; last in, first out. */
  own<T extends AsyncDisposable>(resource: T): T {
    this.#resources.push(resource);
    return resource;
  }

  /** Replaces kube-proxy's rules; existing connections keep their translation. */
  async setServices(services: readonly ServiceSpec[]): Promise<void> {
    const masquerade = {
      4: { podCidr: plan.podCidr4, uplink: plan.upstreamUplink },
      6: { podCidr: plan.podCidr6, uplink: plan.upstreamUplink },
    };
    if (this.kubeProxy === 'nftables') {
      await this.node.run('nft', ['-f', '-'], nftablesRules(services, masquerade));
    } else if (this.kubeProxy === 'iptables') {
      await this.node.run('iptables-restore', [], iptablesRules(services, 4, masquerade[4]));
      await this.node.run('ip6tables-restore', [], iptablesRules(services, 6, masquerade[6]));
    }
  }

  /** Starts a pod on the running node. */
  async addPod(spec: PodSpec): Promise<Pod> {
    const all = planPods([...this.pods, spec]);
    const planned = all[all.length - 1];
    if (planned === undefined) throw new Error('unreachable: planPods keeps the number of pods');
    return this.startPod(planned);
  }

  async startPod(pod: PodPlan): Promise<Pod> {
    const namespace = await Namespace.create(pod.name);
    this.own(namespace);
    await quietIpv6(namespace);
    // Test pods ping as any user may: net.ipv4.ping_group_range rules IPv6 as well.
    await namespace.sysctl({ 'net.ipv4.ping_group_range': '0 2147483647' });
    await this.node.ip([
      `link add ${pod.hostInterface} type veth peer name eth0 netns ${namespace.name}`,
      ...hostSideCommands(pod),
    ]);
    await namespace.ip(podSideCommands(pod));
    const [own] = (await namespace.ipJson(['link', 'show', 'eth0'])) as LinkInfo[];
    const links = (await this.node.ipJson(['link', 'show'])) as LinkInfo[];
    const host = links.find(({ ifname }) => ifname === pod.hostInterface);
    const bridge = links.find(({ ifname }) => ifname === plan.bridge);
    if (own === undefined || host === undefined || bridge === undefined) {
      throw new Error(`the links of pod ${pod.name} are gone`);
    }
    const started: Pod = {
      ...pod,
      namespace,
      mac: own.address,
      hostIfindex: host.ifindex,
      hostMac: host.address,
      gatewayMac: pod.kind === 'bridge' ? bridge.address : host.address,
    };
    this.#pods.set(pod.name, started);
    return started;
  }

  /** Ends a pod: its namespace and with it both ends of its veth. What runs inside must have ended. */
  async removePod(name: string): Promise<void> {
    const pod = this.pod(name);
    this.#pods.delete(name);
    await this.node.ip([`link del ${pod.hostInterface}`]);
    await pod.namespace[Symbol.asyncDispose]();
  }

  /** Interface index in the node's namespace. */
  async ifindex(name: string): Promise<number> {
    const [link] = (await this.node.ipJson(['link', 'show', name])) as LinkInfo[];
    if (link === undefined) throw new Error(`no interface ${name}`);
    return link.ifindex;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const resource of this.#resources.toReversed()) await resource[Symbol.asyncDispose]();
    this.#resources.length = 0;
    for (const namespace of [this.upstream, this.remote, this.node]) {
      await namespace[Symbol.asyncDispose]();
    }
  }
}

/** Makes the node, ready: every address answers as soon as this returns. */
export async function createNode(spec: NodeSpec): Promise<TestNode> {
  const pods = planPods(spec.pods);
  const name = spec.name ?? 'node';
  const node = await Namespace.create(name);
  const remote = await Namespace.create(`${name}-remote`);
  const upstream = await Namespace.create(`${name}-up`);
  const made = new TestNode({ node, remote, upstream }, spec);
  try {
    for (const namespace of [node, remote, upstream]) await quietIpv6(namespace);
    await configureNode(node, spec);
    await connectRemote(node, remote);
    await connectUpstream(node, upstream);
    for (const pod of pods) await made.startPod(pod);
    await made.setServices(spec.services ?? []);
    await untrack(node, spec.nodeLocal ?? []);
    return made;
  } catch (error) {
    await made[Symbol.asyncDispose]();
    throw error;
  }
}

/** Addresses are usable at once: no duplicate address detection. */
async function quietIpv6(namespace: Namespace): Promise<void> {
  await namespace.sysctl({
    'net.ipv6.conf.all.accept_dad': 0,
    'net.ipv6.conf.default.accept_dad': 0,
  });
}

async function configureNode(node: Namespace, spec: NodeSpec): Promise<void> {
  const reversePathFilter = spec.reversePathFilter ?? 0;
  const srcValidMark = spec.srcValidMark ?? 0;
  const bridgeNetfilter = spec.bridgeNetfilter ?? 1;
  await node.sysctl({
    'net.ipv4.ip_forward': 1,
    'net.ipv6.conf.all.forwarding': 1,
    'net.ipv6.conf.default.forwarding': 1,
    'net.ipv4.conf.all.rp_filter': reversePathFilter,
    'net.ipv4.conf.default.rp_filter': reversePathFilter,
    'net.ipv4.conf.all.src_valid_mark': srcValidMark,
    'net.ipv4.conf.default.src_valid_mark': srcValidMark,
    // Without it the node would tell pods to talk to each other directly.
    'net.ipv4.conf.all.send_redirects': 0,
    'net.ipv4.conf.default.send_redirects': 0,
  });
  await node.ip([
    `link add ${plan.bridge} address ${plan.bridgeMac} type bridge`,
    `link set ${plan.bridge} up`,
    `addr add ${plan.bridgeGateway4}/24 dev ${plan.bridge}`,
    `addr add ${plan.bridgeGateway6}/64 dev ${plan.bridge} nodad`,
    // Never up, as NodeLocal DNSCache leaves its dummy. IPv6 addresses work only on interfaces that are up.
    `link add ${plan.nodeLocal} type bridge`,
    ...(spec.nodeLocal ?? []).map(({ address }) =>
      address.includes(':')
        ? `addr add ${address}/128 dev lo nodad`
        : `addr add ${address}/32 dev ${plan.nodeLocal}`,
    ),
  ]);
  // br_netfilter's settings exist in a namespace from the first bridge of the machine on.
  await node.sysctl({
    'net.bridge.bridge-nf-call-iptables': bridgeNetfilter,
    'net.bridge.bridge-nf-call-ip6tables': bridgeNetfilter,
  });
}

async function connectRemote(node: Namespace, remote: Namespace): Promise<void> {
  const { remoteUplink: device } = plan;
  await node.ip([
    `link add ${device} type veth peer name eth0 netns ${remote.name}`,
    `link set ${device} up`,
    `addr add ${plan.node4}/24 dev ${device}`,
    `addr add ${plan.node6}/64 dev ${device} nodad`,
  ]);
  await remote.ip([
    'link set eth0 up',
    `addr add ${plan.remoteNode4}/24 dev eth0`,
    `addr add ${plan.remoteNode6}/64 dev eth0 nodad`,
    `addr add ${plan.remotePod4}/32 dev lo`,
    `addr add ${plan.remotePod6}/128 dev lo nodad`,
    `route add default via ${plan.node4}`,
    `route add default via ${plan.node6}`,
  ]);
  await node.ip([
    `route add ${plan.remotePodCidr4} via ${plan.remoteNode4}`,
    `route add ${plan.remotePodCidr6} via ${plan.remoteNode6}`,
  ]);
}

async function connectUpstream(node: Namespace, upstream: Namespace): Promise<void> {
  const { upstreamUplink: device } = plan;
  await node.ip([
    `link add ${device} type veth peer name eth0 netns ${upstream.name}`,
    `link set ${device} up`,
    `addr add ${plan.nodeUpstream4}/24 dev ${device}`,
    `addr add ${plan.nodeUpstream6}/64 dev ${device} nodad`,
  ]);
  // Servers answer from addresses that are local only by route.
  await upstream.sysctl({ 'net.ipv4.ip_nonlocal_bind': 1, 'net.ipv6.ip_nonlocal_bind': 1 });
  await upstream.ip([
    'link set eth0 up',
    `addr add ${plan.upstream4}/24 dev eth0`,
    `addr add ${plan.upstream6}/64 dev eth0 nodad`,
    ...plan.upstreamPrefixes4.map((prefix) => `route add local ${prefix} dev lo`),
    ...plan.upstreamPrefixes6.map((prefix) => `route add local ${prefix} dev lo`),
    `route add default via ${plan.nodeUpstream4}`,
    `route add default via ${plan.nodeUpstream6}`,
  ]);
  await node.ip([
    `route add default via ${plan.upstream4}`,
    `route add default via ${plan.upstream6}`,
  ]);
}

/** The rules of NodeLocal DNSCache for its addresses. */
async function untrack(node: Namespace, addresses: readonly NodeLocalAddress[]): Promise<void> {
  for (const { address } of addresses.filter(({ noTrack }) => noTrack === true)) {
    const command = address.includes(':') ? 'ip6tables' : 'iptables';
    for (const protocol of ['udp', 'tcp']) {
      const isDns = ['-p', protocol, '--dport', '53', '-j', 'CT', '--notrack'];
      const isReply = ['-p', protocol, '--sport', '53', '-j', 'CT', '--notrack'];
      await node.run(command, ['-t', 'raw', '-A', 'PREROUTING', '-d', address, ...isDns]);
      await node.run(command, ['-t', 'raw', '-A', 'OUTPUT', '-s', address, ...isReply]);
      await node.run(command, ['-t', 'raw', '-A', 'OUTPUT', '-d', address, ...isDns]);
    }
  }
}
