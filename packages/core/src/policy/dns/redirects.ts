// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Redirects of this node: CiliumLocalRedirectPolicies x Services x ready pods of this node -> frontends, each with its
 * backends. A frontend without a ready backend is as if no policy named it, so that a Service leads to its own pods then.
 *
 * A policy redirects the traffic of other pods, so its frontends are bounded: Services of its own namespace, and, for policies of
 * namespaces that the operator lists (`NodeContext.redirectNamespaces`), addresses that belong to nothing in the cluster.
 */

import type { DiagnosticCode } from '../../codes/diagnostics.ts';
import type { LocalRedirectPolicy, Pod, RedirectPort, Service } from '../../k8s/objects.ts';
import { objectKey } from '../../k8s/objects.ts';
import { pairedPort, selectsLabels } from '../../k8s/parse-redirect-policy.ts';
import {
  redirectBackendsMax,
  redirectFrontendsMax,
  redirectFrontendsPerPolicyMax,
  redirectPairsMax,
  redirectPairsPerPolicyMax,
  redirectPoliciesMax,
} from '../../limits.ts';
import { compareAddresses, formatAddress, isIpv4 } from '../../net/ip.ts';
import type { LocalPod } from '../classes/address-owners.ts';
import type { ClusterState, NodeContext } from '../model/cluster-state.ts';
import type { Diagnostic } from '../model/desired.ts';
import { ClassFlag, Protocol } from '../model/kernel-numbers.ts';
import type { Redirect, RedirectBackend } from '../model/redirect.ts';
import { inTurn } from './redirect-order.ts';

export interface RedirectPlan {
  /** By address, protocol and port, which are distinct. */
  readonly redirects: readonly Redirect[];
  readonly diagnostics: readonly Diagnostic[];
}

/** Default of `NodeContext.redirectNamespaces`. */
export const defaultRedirectNamespaces: readonly string[] = ['kube-system'];

const none: RedirectPlan = { redirects: [], diagnostics: [] };

export interface RedirectSurroundings {
  /** Pods of this node with addresses of their own. */
  readonly localPods: readonly LocalPod[];
  /** Pods of this node with hostNetwork. */
  readonly hostPods: Iterable<Pod>;
  /** Kind of the owner of an address: `ClassFlag` bits. */
  readonly flagsOf: (address: Uint8Array) => number;
  /** Whether a policy judges the pod's DNS by name. */
  readonly isAskedByName: (pod: LocalPod) => boolean;
}

/** The plan of one cluster state. */
export function planRedirects(
  cluster: ClusterState,
  node: NodeContext,
  around: RedirectSurroundings,
): RedirectPlan {
  const policies = [...(cluster.redirectPolicies?.values() ?? [])];
  if (policies.length === 0) return none;
  const first = node.redirectNamespaces ?? defaultRedirectNamespaces;
  return new Planner(cluster, node, around).plan(inTurn(policies, first));
}

/** Namespace of the cluster's DNS: writers of policies here are trusted with every name. */
const resolverNamespace = 'kube-system';

interface Target {
  readonly address: Uint8Array;
  readonly port: number;
  readonly protocol: 6 | 17;
  readonly backend: RedirectPort;
}

class Planner {
  readonly #cluster: ClusterState;
  readonly #allowed: readonly string[];
  readonly #caches: ReadonlySet<string>;
  /** Resolvers whose answers count for every policy. */
  readonly #trusted: ReadonlySet<string>;
  readonly #around: RedirectSurroundings;
  readonly #redirects = new Map<string, Redirect>();
  /** Frontends times backends. */
  #pairs = 0;
  readonly #diagnostics: Diagnostic[] = [];

  constructor(cluster: ClusterState, node: NodeContext, around: RedirectSurroundings) {
    this.#cluster = cluster;
    this.#allowed = node.redirectNamespaces ?? defaultRedirectNamespaces;
    const own = new Set(node.localAddresses.map((address) => formatAddress(address)));
    const caches = new Set(node.nodeLocalDns.map((address) => formatAddress(address)));
    this.#caches = caches.difference(own);
    const resolvers = (node.clusterResolvers ?? []).map((address) => formatAddress(address));
    this.#trusted = caches.union(new Set(resolvers));
    this.#around = around;
  }

  plan(policies: readonly LocalRedirectPolicy[]): RedirectPlan {
    for (const policy of policies.slice(0, redirectPoliciesMax)) this.#add(policy);
    // Said once for each namespace, or there would be as much to say as its tenant likes.
    const over = Map.groupBy(policies.slice(redirectPoliciesMax), ({ namespace }) => namespace);
    for (const [policy, ...others] of over.values()) {
      if (policy === undefined) continue;
      const more = others.length === 0 ? '' : `, and so do ${others.length} more of its namespace`;
      this.#say(policy, 'error', 'redirect-limit', `redirects nothing${more}: ${overPolicies}`);
    }
    const redirects = [...this.#redirects.values()].sort(
      (left, right) =>
        compareAddresses(left.address, right.address) ||
        left.protocol - right.protocol ||
        left.port - right.port,
    );
    return { redirects, diagnostics: this.#diagnostics };
  }

  #add(policy: LocalRedirectPolicy): void {
    const all =
      policy.frontend.kind === 'address' ? this.#ofAddress(policy) : this.#ofService(policy);
    if (all.length === 0) return;
    const targets = all.slice(0, redirectFrontendsPerPolicyMax);
    if (all.length > targets.length) {
      const message = `is not redirected whole: it has ${all.length} addresses and ports, of which ${targets.length} are. Name fewer in toPorts`;
      this.#say(policy, 'error', 'redirect-limit', message);
    }
    const pods = this.#podsOf(policy, targets.length);
    const subject = subjectOf(policy);
    const judged = pods.filter((pod) => this.#around.isAskedByName(pod));
    const isAskedByName = judged.length > 0;
    let conflicts = 0;
    for (const { address, port, protocol, backend } of targets) {
      const key = `${formatAddress(address)} ${protocol} ${port}`;
      const other = this.#redirects.get(key);
      if (other !== undefined) {
        if (conflicts++ > 0) continue;
        const message = `${formatAddress(address)} port ${port} is redirected by the older ${other.subject} already: remove one of them`;
        this.#say(policy, 'error', 'redirect-conflict', message);
        continue;
      }
      const pairs = this.#pairs + pods.length;
      if (this.#redirects.size >= redirectFrontendsMax || pairs > redirectPairsMax) {
        this.#say(policy, 'error', 'redirect-limit', overFrontends);
        return;
      }
      this.#pairs = pairs;
      this.#redirects.set(key, {
        ...{ subject, namespace: policy.namespace, address, port, protocol },
        ...backendsOf(pods, address, backend.port),
        ...{ isAddress: policy.frontend.kind === 'address' && !this.#isOfService(address) },
        ...{ isAskedByName, labels: labelsOfBackends(policy), backendPort: backend.port },
      });
    }
    const [first] = judged;
    if (first === undefined || !targets.some(({ port }) => port === dnsPort)) return;
    const message =
      `its backend ${objectKey(first.pod)} is under a policy with rules.dns, so queries of pods under such policies are not ` +
      'redirected: they would come back to it. Leave the backends out of policies with rules.dns';
    this.#say(policy, 'warning', 'redirect-backend-judged', message);
  }

  #ofAddress(policy: LocalRedirectPolicy): readonly Target[] {
    const { frontend, backendPorts, namespace } = policy;
    if (frontend.kind !== 'address') return [];
    const { address, ports } = frontend;
    const refused = this.#allowed.includes(namespace)
      ? this.#unfit(address, namespace)
      : `is matched by a policy of namespace ${namespace}, and only those of ${this.#allowed.join(', ') || 'no namespace'} may match addresses: use serviceMatcher, or add the namespace to redirectNamespaces of the agent`;
    if (refused !== null) {
      const message = `redirects nothing: spec.redirectFrontend.addressMatcher.ip ${formatAddress(address)} ${refused}`;
      this.#say(policy, 'error', 'redirect-refused', message);
      return [];
    }
    return ports.flatMap((port) => {
      const backend = pairedPort(port, ports.length, backendPorts);
      return backend === null ? [] : [{ ...target(address, port), backend }];
    });
  }

  /** Why a policy may not take the address; null: it may. */
  #unfit(address: Uint8Array, namespace: string): string | null {
    if (namespace !== resolverNamespace && this.#trusted.has(formatAddress(address))) {
      return `is a resolver whose answers count for every policy: only policies of ${resolverNamespace} may match it`;
    }
    // Where the operator says that a cache is, and no interface of the node has the address, a policy may bring the cache.
    if (this.#caches.has(formatAddress(address))) return null;
    return unfitAddress(this.#around.flagsOf(address));
  }

  /** Whether a Service has the address, also one that `nodeLocalDns` lists and a policy matches as an address. */
  #isOfService(address: Uint8Array): boolean {
    return (this.#around.flagsOf(address) & ClassFlag.service) !== 0;
  }

  #ofService(policy: LocalRedirectPolicy): readonly Target[] {
    const { frontend, namespace, backendPorts } = policy;
    if (frontend.kind !== 'service') return [];
    const { name, ports: wanted } = frontend;
    const key = `${namespace}/${name}`;
    const service = this.#cluster.services.get(key);
    const refused = refusedService(key, service);
    if (refused !== null || service === undefined) {
      this.#say(policy, 'error', 'redirect-refused', `redirects nothing: ${refused ?? ''}`);
      return [];
    }
    const missing = wanted.filter((port) => !service.ports.some((each) => isSamePort(port, each)));
    for (const { port, protocol } of missing) {
      const message = `Service ${key} has no port ${port}/${protocol}, which spec.redirectFrontend.serviceMatcher.toPorts names: write one of ${portTexts(service)}`;
      this.#say(policy, 'error', 'redirect-port', message);
    }
    const asked = service.ports.filter(
      (port) => wanted.length === 0 || wanted.some((each) => isSamePort(each, port)),
    );
    const targets = asked.flatMap((port) => {
      if (port.protocol !== 'TCP' && port.protocol !== 'UDP') return [];
      const { protocol } = port;
      // The policy's own name for the port, where it gives one, else that of the Service.
      const own = wanted.find((each) => isSamePort(each, port))?.name ?? '';
      const names = [...new Set([own, port.name.toLowerCase()])];
      const backend = names
        .map((each) => pairedPort({ name: each, protocol }, asked.length, backendPorts))
        .find((found) => found !== null);
      if (backend === undefined || backend === null) return [];
      return service.clusterIps.map((address) => ({
        ...target(address, { ...port, protocol }),
        backend,
      }));
    });
    const isPaired = (port: Service['ports'][number]): boolean =>
      targets.some(
        (each) => each.port === port.port && each.protocol === protocolNumbers[port.protocol],
      );
    // A Service has ports without a cache, most often metrics. All of them, or DNS, is no intention.
    const lost = asked.filter(
      (port) => !isPaired(port) && (targets.length === 0 || wanted.length > 0 || port.port === 53),
    );
    for (const port of lost) {
      const message = `port ${port.port}/${port.protocol} of Service ${key} is not redirected: no port of spec.redirectBackend has its protocol and its name ${JSON.stringify(port.name)}. Of several ports, those of the same name belong together`;
      this.#say(policy, 'error', 'redirect-port', message);
    }
    return targets;
  }

  /** Pods that the policy selects, as many as its `frontends` leave room for. */
  #podsOf(policy: LocalRedirectPolicy, frontends: number): readonly LocalPod[] {
    const { namespace, selector } = policy;
    const found = this.#around.localPods
      .filter(
        ({ pod, isDisputed }) =>
          pod.namespace === namespace &&
          !isDisputed &&
          pod.isPartial !== true &&
          !pod.isFinished &&
          selectsLabels(selector, pod.labels),
      )
      .sort((left, right) => (left.pod.name < right.pod.name ? -1 : 1));
    if (found.length === 0) this.#sayHost(policy);
    const max = Math.min(redirectBackendsMax, Math.floor(redirectPairsPerPolicyMax / frontends));
    if (found.length > max) {
      const message = `selects ${found.length} pods of this node: traffic is spread among the first ${max}`;
      this.#say(policy, 'warning', 'redirect-limit', message);
    }
    return found.slice(0, max);
  }

  /** Reports such a policy: queries of a pod with hostNetwork are the node's own, and a redirected cache would ask itself. */
  #sayHost(policy: LocalRedirectPolicy): void {
    const { namespace, selector } = policy;
    const host = Iterator.from(this.#around.hostPods).find(
      (pod) => pod.namespace === namespace && selectsLabels(selector, pod.labels),
    );
    if (host === undefined) return;
    const message =
      `redirects nothing on this node: ${objectKey(host)} is on the node's network, and only pods with an address of their own ` +
      "are backends. Remove hostNetwork from the pods, or have them listen on an address that the agent's nodeLocalDns names";
    this.#say(policy, 'warning', 'redirect-backend-host', message);
  }

  #say(
    policy: LocalRedirectPolicy,
    severity: Diagnostic['severity'],
    code: DiagnosticCode,
    message: string,
  ): void {
    this.#diagnostics.push({ severity, code, subject: subjectOf(policy), message });
  }
}

const dnsPort = 53;
const overPolicies = `a node takes ${redirectPoliciesMax} policies, and others come first. Remove some`;
const overFrontends = `is not redirected whole: a node redirects from ${redirectFrontendsMax} addresses and ports, and to ${redirectPairsMax} backends of them all. Remove policies`;
const protocolNumbers: Readonly<Record<string, 6 | 17>> = {
  TCP: Protocol.tcp,
  UDP: Protocol.udp,
};

/** Reason for which policies may not redirect an address of the cluster; null: they may. */
function unfitAddress(flags: number): string | null {
  if ((flags & ClassFlag.service) !== 0) {
    return 'is an address of a Service: use serviceMatcher, in the namespace of the Service';
  }
  if ((flags & ClassFlag.node) !== 0) {
    return 'is an address of a node, whose own listener answers there: remove the interface that has it';
  }
  const isOfCluster = (flags & (ClassFlag.cluster | ClassFlag.localPods)) !== 0;
  return isOfCluster ? 'is an address of the cluster, of pods or of its API server' : null;
}

function refusedService(key: string, service: Service | undefined): string | null {
  if (service === undefined) return `there is no Service ${key}`;
  // Pods send their credentials to it.
  if (key === 'default/kubernetes')
    return `Service ${key} is the API server, which is not redirected`;
  return service.clusterIps.length === 0 ? `Service ${key} has no ClusterIP` : null;
}

function backendsOf(
  pods: readonly LocalPod[],
  frontend: Uint8Array,
  port: number,
): Pick<Redirect, 'backends' | 'ending' | 'selected'> {
  const own = pods.flatMap(({ pod, addresses }) => {
    const address = addresses.find((each) => isIpv4(each) === isIpv4(frontend));
    return address === undefined ? [] : [{ pod, address }];
  });
  const place = ({ pod, address }: (typeof own)[number]): RedirectBackend => ({
    ...{ address, port, pod: `${pod.namespace}/${pod.name}` },
  });
  const ready = own.filter(({ pod }) => pod.isReady === true);
  return {
    backends: ready
      .filter(({ pod }) => !pod.isDeleting)
      .map(place)
      .sort((left, right) => compareAddresses(left.address, right.address)),
    ending: ready.filter(({ pod }) => pod.isDeleting).map(({ address }) => address),
    selected: own.map(place),
  };
}

/** Labels that every backend has: those that the selector requires by value. */
export function labelsOfBackends({
  selector,
}: Pick<LocalRedirectPolicy, 'selector'>): ReadonlyMap<string, string> {
  return new Map(
    selector.flatMap(({ key, operator, values: [value, ...others] }) =>
      operator === 'In' && value !== undefined && others.length === 0
        ? [[key, value] as const]
        : [],
    ),
  );
}

function target(
  address: Uint8Array,
  { port, protocol }: Pick<RedirectPort, 'port' | 'protocol'>,
): Omit<Target, 'backend'> {
  return { address, port, protocol: protocol === 'TCP' ? Protocol.tcp : Protocol.udp };
}

function isSamePort(
  left: Pick<RedirectPort, 'port' | 'protocol'>,
  right: { readonly port: number; readonly protocol: string },
): boolean {
  return left.port === right.port && left.protocol === right.protocol;
}

function portTexts({ ports }: Service): string {
  return ports.map(({ port, protocol }) => `${port}/${protocol}`).join(', ');
}

function subjectOf(policy: Pick<LocalRedirectPolicy, 'namespace' | 'name'>): string {
  return `CiliumLocalRedirectPolicy/${objectKey(policy)}`;
}
