// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Which servers a pod's DNS is steered for, and with which names: rules name backends, `from_pod` sees
 * what the pod asks. Servers must be listed one by one. What cannot be listed is not steered, and then
 * `judge` drops it, because its verdict is L7-DNS: closed, and said in a diagnostic. The one wildcard,
 * server ::, is for rules of every peer; then servers whom the policy treats otherwise get entries of
 * their own, with no name at all where it denies them.
 */

import { assert } from '../../assert.ts';
import type { DiagnosticCode } from '../../codes/diagnostics.ts';
import { dnsNamesPerPolicyMax, dnsServersPerCidrMax, dnsServersPerRuleMax } from '../../limits.ts';
import { compareAddresses, formatAddress, hostPrefix, prefixCovers } from '../../net/ip.ts';
import type { Diagnostic } from '../model/desired.ts';
import { ClassFlag, Direction, Protocol, Verdict } from '../model/kernel-numbers.ts';
import { identityKey } from '../model/labels.ts';
import type { CidrPeer, Peer } from '../model/peer.ts';
import type { PolicyDraft, Statement } from '../model/policy-set.ts';
import { selectorMatches } from '../model/selector.ts';
import type { Backend, ExpectedBackend, Frontend, LocalBackends } from './dns-frontends.ts';
import { coversPort, DnsJudge, namesExactly, type ServerVerdict } from './dns-judge.ts';
import { DnsServerNames } from './dns-named.ts';
import { DnsRuleCheck } from './dns-rule-check.ts';
import type { DnsView } from './dns-view.ts';
import { allNames, type NameSet, type NameSets, namesContent, noNames } from './name-sets.ts';
import type { Who } from './statement-index.ts';

export interface DnsServer {
  readonly server: Uint8Array;
  readonly protocol: 6 | 17;
  readonly names: NameSet;
}

/** All zero: any server without an entry of its own. */
export const anyServer: Uint8Array = new Uint8Array(16);

export const dnsPort = 53;
assert(dnsServersPerCidrMax <= 256, 'the addresses of a listed CIDR differ in the last byte only');
const transports = [Protocol.tcp, Protocol.udp] as const;

/** An address that rules about port 53 single out. */
interface DnsCandidate {
  readonly address: Uint8Array;
  readonly who: Who;
}

export interface DnsSurroundings {
  /** Classes, as the policy sees them. */
  readonly classes: DnsView;
  readonly peers: ReadonlyMap<string, Peer>;
  readonly frontends: readonly Frontend[];
  readonly nodeLocal: readonly Uint8Array[];
  /** As of `NameSets`. */
  readonly namesMax?: number | undefined;
}

export interface FoundServers {
  /** By address and protocol. */
  readonly servers: readonly DnsServer[];
  readonly diagnostics: readonly Diagnostic[];
}

/** Expands a policy over the servers of one cluster state. */
export function findServers(draft: PolicyDraft, surroundings: DnsSurroundings): FoundServers {
  const finder = new DnsServerFinder(surroundings);
  const servers = finder.find(draft);
  return { servers, diagnostics: [...finder.diagnostics] };
}

class DnsServerFinder {
  readonly #classes: DnsView;
  readonly #peers: ReadonlyMap<string, Peer>;
  readonly #frontends: readonly Frontend[];
  readonly #nodeLocal: readonly Uint8Array[];
  readonly #namesMax: number | undefined;
  readonly #diagnostics = new Map<string, Diagnostic>();

  constructor(options: DnsSurroundings) {
    this.#namesMax = options.namesMax;
    this.#classes = options.classes;
    this.#peers = options.peers;
    this.#frontends = options.frontends;
    this.#nodeLocal = options.nodeLocal;
  }

  get diagnostics(): Iterable<Diagnostic> {
    return this.#diagnostics.values();
  }

  find(draft: PolicyDraft): readonly DnsServer[] {
    const isDns = draft.statements.some(({ verdict }) => verdict === Verdict.l7Dns);
    if (!isDns) return [];
    const judge = new DnsJudge(draft.statements, this.#namesMax);
    const check = new DnsRuleCheck(draft.statements, this.#classes, this.#peers);
    const servers = transports.flatMap((protocol) =>
      this.#findProtocol(draft, judge, check, protocol),
    );
    for (const { severity, code, subject, message } of check.diagnostics()) {
      this.#report(severity, code, subject, message);
    }
    if (!judge.names.isFull) return servers;
    for (const { subject } of draft.specs) {
      this.#report('error', 'dns-servers-not-listed', subject, tooManyNames);
    }
    return [];
  }

  #findProtocol(
    draft: PolicyDraft,
    judge: DnsJudge,
    check: DnsRuleCheck,
    protocol: 6 | 17,
  ): readonly DnsServer[] {
    const { candidates, isDenyListed } = this.#candidates(draft.statements, check, protocol);
    const other = judge.judge('other', protocol, dnsPort);
    let wildcard: NameSet | null = other.kind === 'names' ? other.names : null;
    if (wildcard !== null && !isDenyListed) {
      for (const { subject } of draft.specs) {
        this.#report('error', 'dns-deny-too-wide', subject, denyTooWide);
      }
      wildcard = null;
    }
    const found = new Map<string, DnsServer>();
    const add = (server: Uint8Array, names: NameSet): void => {
      const isSame = wildcard !== null && namesContent(wildcard) === namesContent(names);
      if (!isSame) found.set(formatAddress(server), { server, protocol, names });
    };
    for (const frontend of this.#frontends) {
      if (frontend.protocol !== protocol) continue;
      const verdict = this.#judgeFrontend(judge, frontend);
      const { local } = frontend;
      const backends = this.#backendsOf(frontend);
      if (backends !== null) check.frontend({ ...frontend, backends }, verdict);
      if (local !== undefined) {
        check.frontend({ ...frontend, backends: this.#localBackends(local) }, verdict);
      }
      if (frontend.port === dnsPort) addVerdict(frontend.address, verdict, wildcard, add);
      else if (verdict.kind === 'names') this.#reportPort(frontend);
    }
    // After the frontends: a node-local address is judged as what it is, too.
    for (const { address, who } of candidates.values()) {
      const verdict = judge.judge(who, protocol, dnsPort);
      check.candidate(who, protocol, verdict);
      const before = found.get(formatAddress(address));
      if (verdict.kind === 'deny' && wildcard === null) found.delete(formatAddress(address));
      else if (verdict.kind !== 'none' || before === undefined) {
        addVerdict(address, verdict, wildcard, add);
      }
    }
    const servers = [...found.values()].sort((left, right) =>
      compareAddresses(left.server, right.server),
    );
    return wildcard === null
      ? servers
      : [{ server: anyServer, protocol, names: wildcard }, ...servers];
  }

  /**
   * Behind a redirect the pods of this node answer while they are ready, the Service's otherwise. Those of the cluster's
   * resolvers stand for each other, so that a rule holds on each node and while a cache restarts. Others must all be
   * servers by name.
   */
  #judgeFrontend(judge: DnsJudge, frontend: Frontend): ServerVerdict {
    const { local, protocol, isTrusted, backends } = frontend;
    const verdict = this.#judgeService(judge, frontend);
    if (local === undefined) return verdict;
    const locals = this.#localBackends(local);
    const localVerdict = judgeBackends(judge, locals, protocol);
    if (backends === null) return localVerdict;
    if (isTrusted) return eitherVerdict(judge.names, verdict, localVerdict);
    if (!local.isActive) return verdict;
    const all = [...(this.#backendsOf(frontend) ?? []), ...locals];
    return judgeBackends(judge, all, protocol);
  }

  /**
   * A Service without endpoints is judged by the pods that it selects, so that a pod gets the denial of a name at once, and for any
   * other name what kube-proxy answers for the Service. So is a resolver of the cluster without a ready pod: endpoints that lead to
   * no pod, or to an address that is a stranger's by now, do not make another service of it.
   */
  #judgeService(judge: DnsJudge, { backends, expected, protocol }: Frontend): ServerVerdict {
    const own = backends ?? [];
    if (expected === undefined) return judgeBackends(judge, own, protocol);
    const verdict = judgeBackends(judge, this.#expectedBackends(expected), protocol);
    if (own.length === 0) return verdict;
    return eitherVerdict(judge.names, verdict, judgeBackends(judge, own, protocol));
  }

  /** Pods and addresses that a query to the Service may reach; null: it is no Service. */
  #backendsOf({ backends, expected }: Frontend): readonly Backend[] | null {
    return expected === undefined
      ? backends
      : [...(backends ?? []), ...this.#expectedBackends(expected)];
  }

  /** Pods with its labels, while the node has no backend yet. */
  #localBackends({ backends, ...expected }: LocalBackends): readonly Backend[] {
    return backends.length > 0 ? backends : this.#expectedBackends(expected);
  }

  #expectedBackends({ identity, port }: ExpectedBackend): readonly Backend[] {
    const selectors = new Set<string>();
    for (const [key, peer] of this.#peers) {
      const isMatch =
        peer.kind === 'labels'
          ? selectorMatches(peer.selector, identity)
          : peer.kind === 'entity' && peer.entity === 'cluster';
      if (isMatch) selectors.add(key);
    }
    return [{ who: { id: `implied ${identityKey(identity)}`, selectors }, port }];
  }

  /** Addresses that rules about port 53 single out. `isDenyListed`: every denied peer is among them. */
  #candidates(
    statements: readonly Statement[],
    check: DnsRuleCheck,
    protocol: 6 | 17,
  ): {
    readonly candidates: ReadonlyMap<string, DnsCandidate>;
    readonly isDenyListed: boolean;
  } {
    const candidates = new Map<string, DnsCandidate>();
    const names = new DnsServerNames(statements, this.#classes, this.#peers);
    let isDenyListed = true;
    const add = (address: Uint8Array): void => {
      const text = formatAddress(address);
      if (candidates.has(text)) return;
      const place = this.#classes.at(address);
      const isNodeLocal = this.#nodeLocal.includes(address);
      if ((place.flags & ClassFlag.service) !== 0 && !isNodeLocal) return;
      candidates.set(text, { address, who: names.who(address, place) });
    };
    for (const address of this.#nodeLocal) add(address);
    for (const statement of statements) {
      if (statement.direction !== Direction.egress || statement.peers === 'any') continue;
      const isPlain = statement.verdict === Verdict.allow;
      const concerns = isPlain ? namesExactly : coversPort;
      if (!concerns(statement, protocol, dnsPort)) continue;
      for (const key of statement.peers) {
        const addresses = this.#addressesOf(key);
        if (addresses !== null) for (const address of addresses) add(address);
        else if (statement.verdict === Verdict.deny) isDenyListed = false;
        else if (statement.verdict === Verdict.l7Dns) {
          this.#report('error', 'dns-servers-not-listed', statement.origin, notListed(key));
          check.said(statement);
        }
      }
    }
    return { candidates, isDenyListed };
  }

  /** Every address that the peer selects; null when they are too many to list. */
  #addressesOf(key: string): readonly Uint8Array[] | null {
    const peer = this.#peers.get(key);
    if (peer?.kind === 'cidr') return listCidr(peer);
    if (peer?.kind === 'entity' && peer.entity.startsWith('world')) return null;
    return this.#classes.membersOf(key, dnsServersPerRuleMax);
  }

  #reportPort({ subject, port }: Frontend): void {
    const message =
      `port ${port} leads to DNS servers with DNS rules, but only port 53 is steered: ` +
      'queries to it are dropped. Give the Service port 53';
    this.#report('warning', 'dns-frontend-port', subject, message);
  }

  #report(
    severity: Diagnostic['severity'],
    code: DiagnosticCode,
    subject: string,
    message: string,
  ): void {
    this.#diagnostics.set(`${code} ${subject} ${message}`, { severity, code, subject, message });
  }
}

/** All backends must be servers by name: a query to the frontend may reach any of them. */
function judgeBackends(
  judge: DnsJudge,
  backends: readonly Backend[],
  protocol: 6 | 17,
): ServerVerdict {
  let result: ServerVerdict | null = null;
  for (const { who, port } of backends) {
    const verdict = judge.judge(who, protocol, port);
    if (verdict.kind === 'deny') return verdict;
    if (result === null) result = verdict;
    else if (result.kind === 'names' && verdict.kind === 'names') {
      result = { kind: 'names', names: judge.names.intersect(result.names, verdict.names) };
    } else if (result.kind !== verdict.kind) result = { kind: 'none' };
  }
  return result ?? { kind: 'none' };
}

/**
 * Verdict for two kinds of pods that stand for each other: the names that either of them has hold for both, and so does a
 * denial.
 */
function eitherVerdict(names: NameSets, left: ServerVerdict, right: ServerVerdict): ServerVerdict {
  if (left.kind === 'deny' || right.kind === 'deny') return { kind: 'deny' };
  if (left.kind === 'names' && right.kind === 'names') {
    return { kind: 'names', names: names.unite(left.names, right.names) };
  }
  if (left.kind === 'names') return left;
  if (right.kind === 'names') return right;
  return left.kind === 'plain' ? left : right;
}

/** One verdict as an entry, if it needs one: beside a wildcard also what must not fall under that. */
function addVerdict(
  server: Uint8Array,
  verdict: ServerVerdict,
  wildcard: NameSet | null,
  add: (server: Uint8Array, names: NameSet) => void,
): void {
  if (verdict.kind === 'names') add(server, verdict.names);
  else if (wildcard !== null) add(server, verdict.kind === 'plain' ? allNames : noNames);
}

/** The addresses of a CIDR peer; null when it is longer than the limit. */
function listCidr({ cidr, except }: CidrPeer): readonly Uint8Array[] | null {
  const count = 2 ** (128 - cidr.bits);
  if (count > dnsServersPerCidrMax) return null;
  const addresses: Uint8Array[] = [];
  for (let index = 0; index < count; index++) {
    const address = Uint8Array.from(cidr.address);
    address[15] = (address[15] ?? 0) | index;
    const prefix = hostPrefix(address);
    if (!except.some((hole) => prefixCovers(hole, prefix))) addresses.push(address);
  }
  return addresses;
}

const tooManyNames =
  `is one of the objects whose rules.dns have more than ${dnsNamesPerPolicyMax} names for all servers of a pod together: its ` +
  'DNS is dropped. Name the servers of one list of names in one rule, or use wildcards';

const denyTooWide =
  'denies DNS to more servers than can be listed, beside DNS rules for every peer: these rules are ' +
  'not in force, DNS to servers without rules of their own is dropped. Deny fewer addresses, or name the servers';

function notListed(key: string): string {
  return (
    `rules.dns for "${key}": its servers cannot be listed (at most ${dnsServersPerCidrMax} addresses of a CIDR, ` +
    `${dnsServersPerRuleMax} of pods and nodes, no entity world), so DNS to them is dropped. Name the servers, ` +
    'each by its address in toCIDR or by its pods in toEndpoints'
  );
}
