// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A Kubernetes node made of network namespaces: the node, its pods, a remote node and the upstream
 * network, with kube-proxy's rules. `node-plan.ts` draws it. Disposing the node ends what it owns and
 * removes all of it.
 */

import { iptablesRules, nftablesRules, type ServiceSpec } from './kube-proxy.ts';
import { hasIpv6, Namespace } from './namespace.ts';
import {
  bridgeCommands,
  hostSideCommands,
  type NodeLocalAddress,
  type NodeSpec,
  nodeRoutes,
  nodeSysctls,
  type PodPlan,
  type PodSpec,
  plan,
  planPods,
  podSideCommands,
  quietIpv6,
  remoteCommands,
  uplinkCommands,
  upstreamCommands,
} from './node-plan.ts';
import { together } from './together.ts';

export interface Pod extends PodPlan {
  readonly namespace: Namespace;
  readonly mac: string;
  /** Index of the node's end of the veth. */
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
      if (hasIpv6)
        await this.node.run('ip6tables-restore', [], iptablesRules(services, 6, masquerade[6]));
    }
  }

  /** Starts a pod on the running node. */
  async addPod(spec: PodSpec): Promise<Pod> {
    const all = planPods([...this.pods, spec]);
    await this.startPods(all.slice(-1));
    return this.pod(spec.name);
  }

  /** Starts pods, each step for all of them at the same time. */
  async startPods(pods: readonly PodPlan[]): Promise<void> {
    const namespaces = await together(pods.map((pod) => this.#createPodNamespace(pod)));
    await this.node.ip(
      namespaces.flatMap(({ pod, namespace }) => [
        `link add ${pod.hostInterface} type veth peer name eth0 netns ${namespace.name}`,
        ...hostSideCommands(pod),
      ]),
    );
    const ownLinks = together(
      namespaces.map(async ({ pod, namespace }) => {
        await namespace.ip(podSideCommands(pod));
        return linksOf(namespace);
      }),
    );
    const [perPod, links] = await Promise.all([ownLinks, linksOf(this.node)]);
    const bridge = links.get(plan.bridge);
    for (const [i, { pod, namespace }] of namespaces.entries()) {
      const own = perPod[i]?.get('eth0');
      const host = links.get(pod.hostInterface);
      if (own === undefined || host === undefined || bridge === undefined) {
        throw new Error(`the links of pod ${pod.name} are gone`);
      }
      this.#pods.set(pod.name, {
        ...pod,
        namespace,
        mac: own.address,
        hostIfindex: host.ifindex,
        hostMac: host.address,
        gatewayMac: pod.kind === 'bridge' ? bridge.address : host.address,
      });
    }
  }

  async #createPodNamespace(pod: PodPlan): Promise<{ pod: PodPlan; namespace: Namespace }> {
    const namespace = this.own(await Namespace.create(pod.name));
    // Test pods ping as any user may: net.ipv4.ping_group_range rules IPv6 as well.
    await namespace.sysctl({ ...quietIpv6, 'net.ipv4.ping_group_range': '0 2147483647' });
    return { pod, namespace };
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
    const link = (await linksOf(this.node)).get(name);
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
  const [node, remote, upstream] = await createNamespaces(name);
  const made = new TestNode({ node, remote, upstream }, spec);
  try {
    await together([
      node.sysctl({ ...quietIpv6, ...nodeSysctls(spec) }),
      remote.sysctl(quietIpv6),
      // Servers answer from addresses that are local only by route.
      upstream.sysctl({
        ...quietIpv6,
        'net.ipv4.ip_nonlocal_bind': 1,
        'net.ipv6.ip_nonlocal_bind': 1,
      }),
    ]);
    await node.ip([
      ...bridgeCommands(spec),
      ...uplinkCommands(plan.remoteUplink, remote.name, plan.node4, plan.node6),
      ...uplinkCommands(plan.upstreamUplink, upstream.name, plan.nodeUpstream4, plan.nodeUpstream6),
    ]);
    const bridgeNetfilter = spec.bridgeNetfilter ?? 1;
    await together([
      // br_netfilter's settings exist in a namespace from the first bridge of the machine on.
      node.sysctl({
        'net.bridge.bridge-nf-call-iptables': bridgeNetfilter,
        'net.bridge.bridge-nf-call-ip6tables': bridgeNetfilter,
      }),
      remote.ip(remoteCommands),
      upstream.ip(upstreamCommands),
    ]);
    await node.ip(nodeRoutes);
    await made.startPods(pods);
    await made.setServices(spec.services ?? []);
    await untrack(node, spec.nodeLocal ?? []);
    return made;
  } catch (error) {
    await made[Symbol.asyncDispose]();
    throw error;
  }
}

async function createNamespaces(name: string): Promise<[Namespace, Namespace, Namespace]> {
  const works = [name, `${name}-remote`, `${name}-up`].map((what) => Namespace.create(what));
  try {
    return (await together(works)) as Namespace[] as [Namespace, Namespace, Namespace];
  } catch (error) {
    for (const made of await Promise.allSettled(works)) {
      if (made.status === 'fulfilled') await made.value[Symbol.asyncDispose]();
    }
    throw error;
  }
}

async function linksOf(namespace: Namespace): Promise<Map<string, LinkInfo>> {
  const links = (await namespace.ipJson(['link', 'show'])) as LinkInfo[];
  return new Map(links.map((link) => [link.ifname, link]));
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
