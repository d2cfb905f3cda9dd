// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * DNS rules that steer nothing: a rule that selects no DNS server, or names another port than the one that
 * a Service leads to. Their pods' DNS is dropped, and the pods alone would show it, so each is a warning
 * that says what does not match and what to write.
 */

import type { DiagnosticCode } from '../../codes/diagnostics.ts';
import { formatAddress, formatPrefix } from '../../net/ip.ts';
import type { Diagnostic } from '../model/desired.ts';
import { ClassFlag, Direction, Verdict } from '../model/kernel-numbers.ts';
import { podNamespaceLabel } from '../model/labels.ts';
import type { CidrPeer, Peer } from '../model/peer.ts';
import type { Statement } from '../model/policy-set.ts';
import { type LabelRequirement, type LabelSelector, selectorMatches } from '../model/selector.ts';
import type { Backend, Frontend } from './dns-frontends.ts';
import { coversPort, type ServerVerdict } from './dns-judge.ts';
import type { DnsView } from './dns-view.ts';
import { StatementIndex, type Who } from './statement-index.ts';

const dnsPort = 53;
/** Peers of one rule that a message explains; the others it counts. */
const peersExplainedMax = 3;

type CheckedFrontend = Frontend & { readonly backends: readonly Backend[] };

/** The DNS rules of one policy. It is shown every server that the policy may mean, then asked. */
export class DnsRuleCheck {
  readonly #statements: readonly Statement[];
  readonly #index: StatementIndex;
  readonly #classes: DnsView;
  readonly #peers: ReadonlyMap<string, Peer>;
  /** Origins of rules that have a server, or whose fault is said. */
  readonly #settled = new Set<string>();
  readonly #diagnostics: Diagnostic[] = [];

  constructor(
    statements: readonly Statement[],
    classes: DnsView,
    peers: ReadonlyMap<string, Peer>,
  ) {
    this.#statements = statements.filter(
      ({ direction, verdict }) => direction === Direction.egress && verdict === Verdict.l7Dns,
    );
    this.#index = new StatementIndex(this.#statements);
    this.#classes = classes;
    this.#peers = peers;
  }

  /** The rule's fault is in another diagnostic. */
  said({ origin }: Statement): void {
    this.#settled.add(origin);
  }

  /** A server that pods ask under its own address, on port 53, and what the policy says of that. */
  candidate(who: Who, protocol: 6 | 17, verdict: ServerVerdict): void {
    for (const statement of this.#index.covering(who)) {
      // Whom another rule makes a server, this rule does not cut off.
      const isServer = verdict.kind === 'names' || coversPort(statement, protocol, dnsPort);
      if (isServer) this.#settled.add(statement.origin);
    }
  }

  /** A port of a Service, and what the policy says of a query to it. */
  frontend(frontend: CheckedFrontend, verdict: ServerVerdict): void {
    const { backends, protocol } = frontend;
    const selecting = new Map<Statement, Backend[]>();
    for (const backend of backends) {
      for (const statement of this.#index.covering(backend.who)) {
        const selected = selecting.get(statement);
        if (selected === undefined) selecting.set(statement, [backend]);
        else selected.push(backend);
      }
    }
    for (const [statement, selected] of selecting) {
      const isServer = verdict.kind === 'names';
      if (isServer || selected.some(({ port }) => coversPort(statement, protocol, port))) {
        this.#settled.add(statement.origin);
      } else if (selected.length === backends.length) {
        this.#checkPort(statement, frontend, verdict);
      }
    }
  }

  /** All backends are the rule's, and none listens on its port. */
  #checkPort(statement: Statement, frontend: CheckedFrontend, { kind }: ServerVerdict): void {
    const { subject, port, protocol, backends, isTrusted } = frontend;
    const names = portsOf(statement, protocol);
    if (port !== dnsPort || names.length === 0 || (kind !== 'none' && kind !== 'plain')) return;
    // A rule for every peer means any Service; of these, only the cluster's DNS is surely meant.
    if (statement.peers === 'any' && !isTrusted) return;
    const wanted = [...new Set(backends.map((each) => each.port))].sort((a, b) => a - b).join(', ');
    const effect =
      kind === 'none'
        ? 'DNS queries to the Service are dropped'
        : 'DNS queries to the Service pass by another rule without being filtered by name, and toFQDNs learns nothing from them';
    this.#warn(
      'dns-backend-port',
      statement.origin,
      `names port ${names.join(', ')}, but port 53 of ${subject} leads to port ${wanted} of its pods: ` +
        `${effect}. The port of a DNS rule is that of the pods: write port ${wanted}`,
    );
    this.#settled.add(statement.origin);
  }

  /** After all servers were shown. */
  diagnostics(): readonly Diagnostic[] {
    const origins = new Map<string, Statement>();
    for (const statement of this.#statements) {
      const isListed = statement.peers === 'any' || statement.peers.length > 0;
      if (isListed && !this.#settled.has(statement.origin)) {
        origins.set(statement.origin, statement);
      }
    }
    for (const [origin, statement] of origins) {
      // A rule for every peer on port 53 is the wildcard: it needs no server that is known.
      if (statement.peers === 'any' && hasDnsPort(statement)) continue;
      const message = `selects no DNS server, so it lets no query pass: ${this.#explain(statement)}`;
      this.#warn('dns-rule-without-server', origin, message);
    }
    return this.#diagnostics;
  }

  #explain(statement: Statement): string {
    if (statement.peers === 'any') return this.#explainPort(statement, 'any peer');
    const reasons = statement.peers
      .slice(0, peersExplainedMax)
      .map((key) => this.#explainPeer(statement, key));
    const more = statement.peers.length - reasons.length;
    return [...reasons, ...(more > 0 ? [`and ${more} more`] : [])].join('; ');
  }

  #explainPeer(statement: Statement, key: string): string {
    const peer = this.#peers.get(key);
    if (peer?.kind === 'cidr') return this.#explainCidr(statement, peer);
    const isKnown = this.#classes.isKnown(key);
    if (peer?.kind === 'labels') {
      const text = formatSelector(peer.selector);
      return isKnown
        ? this.#explainPort(statement, `pods with ${text}`)
        : this.#explainLabels(peer);
    }
    const entity = peer?.kind === 'entity' ? `entity ${peer.entity}` : key;
    return isKnown ? this.#explainPort(statement, entity) : `${entity} has no address here`;
  }

  #explainPort(statement: Statement, whom: string): string {
    const ports = [...new Set([...portsOf(statement, 6), ...portsOf(statement, 17)])].join(', ');
    return (
      `only queries to port 53 are steered, and no Service leads from there to port ${ports} of ${whom}: ` +
      'write the port that the Service leads to, 53 for servers without a Service'
    );
  }

  #explainLabels({ selector }: Extract<Peer, { kind: 'labels' }>): string {
    const anywhere = {
      requirements: selector.requirements.filter(({ name }) => name !== podNamespaceLabel),
    };
    const elsewhere = new Set<string>();
    for (const { identities } of this.#classes.namedOwners()) {
      for (const identity of identities) {
        const namespace = identity.labels.get(podNamespaceLabel);
        if (namespace !== undefined && selectorMatches(anywhere, identity))
          elsewhere.add(namespace);
      }
    }
    const [found] = [...elsewhere].sort();
    const fix =
      anywhere.requirements.length > 0 && found !== undefined
        ? `pods of namespace ${found} match the other labels: add "k8s:${podNamespaceLabel}: ${found}"`
        : 'correct the labels, or use toEntities: [host] for pods with hostNetwork';
    return `no pod has ${formatSelector(selector)} (${fix})`;
  }

  #explainCidr(statement: Statement, { cidr }: CidrPeer): string {
    const text = formatPrefix(cidr);
    if (!hasDnsPort(statement)) return this.#explainPort(statement, text);
    const { owner } = this.#classes.at(cidr.address);
    if ((owner.flags & ClassFlag.service) !== 0) {
      return `${text} is an address of a Service, which no CIDR selects: name its pods in toEndpoints`;
    }
    if ((owner.flags & ClassFlag.node) !== 0) {
      return (
        `${text} begins with ${formatAddress(cidr.address)} of a node, and only a CIDR of this one address ` +
        'selects it: write it as /32 or /128, or use toEntities'
      );
    }
    return owner.isExternal
      ? `nothing is left of ${text}: correct except`
      : `${text} belongs to pods, which no CIDR selects: name them in toEndpoints`;
  }

  #warn(code: DiagnosticCode, subject: string, message: string): void {
    this.#diagnostics.push({ severity: 'warning', code, subject, message });
  }
}

function hasDnsPort(statement: Statement): boolean {
  return coversPort(statement, 6, dnsPort) || coversPort(statement, 17, dnsPort);
}

function portsOf({ ports }: Statement, protocol: 6 | 17): readonly number[] {
  if (ports === 'any') return [];
  return ports.filter((range) => range.protocol === protocol).map(({ first }) => first);
}

/** As an operator reads it: "k8s-app=kube-dns, io.kubernetes.pod.namespace=shop". */
function formatSelector({ requirements }: LabelSelector): string {
  const texts = requirements.filter((each) => !isAnyPod(each)).map(formatRequirement);
  return texts.length === 0 ? 'any labels' : texts.join(', ');
}

function isAnyPod({ name, operator }: LabelRequirement): boolean {
  return name === podNamespaceLabel && operator === 'Exists';
}

function formatRequirement({ source, name, operator, values }: LabelRequirement): string {
  const key = source === 'reserved' ? `reserved:${name}` : name;
  switch (operator) {
    case 'In':
      return values.length === 1 ? `${key}=${values[0]}` : `${key} in (${values.join(', ')})`;
    case 'NotIn':
      return `${key} not in (${values.join(', ')})`;
    case 'Exists':
      return key;
    case 'DoesNotExist':
      return `no ${key}`;
  }
}
