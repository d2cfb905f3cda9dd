// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Drafts and their DNS servers -> policies with ids, and the members' share of them. A policy whose
 * servers include one that is no trusted resolver gets, for each of its patterns, a selector of its own
 * beside the shared one: answers of such a server to its pods widen no other policy
 * (docs/security.md, safety rule 4). This is part of the policy's content, and so of its id.
 */

import type { Pattern } from '../../dns/pattern.ts';
import { noPolicy, type PolicyId } from '../../ids.ts';
import { formatAddress } from '../../net/ip.ts';
import type { Peers } from '../classes/peer-table.ts';
import type { DnsServer } from '../dns/dns-servers.ts';
import { type NameSet, namesContent } from '../dns/name-sets.ts';
import type {
  CompiledPolicy,
  CompiledRule,
  DnsServerEntry,
  MemberServer,
  RuleOrigin,
  RuleOrigins,
} from '../model/desired.ts';
import { DigestCache } from '../model/digest-cache.ts';
import type { IdKind } from '../model/id-rows.ts';
import type { IdSession } from '../model/id-session.ts';
import { type PolicyDraft, tierText } from '../model/policy-set.ts';
import { sameAs, samePartsAs } from '../model/same-as.ts';
import { isOrdered } from '../model/tiers.ts';
import { checkSelectors } from './selector-overflow.ts';

export interface PlannedPolicy {
  readonly draft: PolicyDraft;
  readonly servers: readonly DnsServer[];
  readonly isPrivate: boolean;
  readonly content: string;
}

/** `trusted`: texts of the addresses of the cluster's resolvers. The wildcard server is none of them. */
export function planPolicy(
  draft: PolicyDraft,
  servers: readonly DnsServer[],
  trusted: ReadonlySet<string>,
): PlannedPolicy {
  const hasFqdns = draft.statements.some(({ fqdns }) => fqdns.length > 0);
  const isPrivate = hasFqdns && servers.some(({ server }) => !trusted.has(formatAddress(server)));
  return { draft, servers, isPrivate, content: `${draft.content} ${isPrivate ? 'private' : ''}` };
}

/** A policy with its ids, and the part of it that members get. */
export interface BuiltPolicy {
  readonly policy: CompiledPolicy;
  readonly servers: readonly MemberServer[];
  readonly dnsServers: readonly DnsServerEntry[];
  /** `noPolicy`: shared. */
  readonly selectors: readonly BuiltSelector[];
  readonly ruleSets: readonly BuiltRuleSet[];
  /** Names whose addresses its rules allow. */
  readonly fqdns: readonly Pattern[];
  readonly origins: readonly RuleOrigin[];
}

export interface BuiltSelector {
  readonly id: number;
  readonly pattern: Pattern;
  readonly policyId: PolicyId;
}

export interface BuiltRuleSet {
  readonly id: number;
  readonly names: NameSet;
}

export interface BuiltPolicies {
  readonly byDraft: ReadonlyMap<PolicyDraft, CompiledPolicy>;
  readonly byId: ReadonlyMap<PolicyId, CompiledPolicy>;
  readonly all: readonly BuiltPolicy[];
  readonly dnsServers: readonly DnsServerEntry[];
  readonly rules: RuleOrigins;
}

/** Digests of the contents that a policy gets ids for. */
interface Names {
  readonly policy: string;
  /** By the text of the origin. */
  readonly rules: ReadonlyMap<string, string>;
  readonly selectors: readonly SelectorName[];
  readonly ruleSets: readonly { readonly names: NameSet; readonly digest: string }[];
}

interface SelectorName {
  readonly pattern: Pattern;
  readonly shared: string;
  /** Text of the policy's own part; null: it has none. */
  readonly own: string | null;
}

interface Entry {
  readonly names: Names;
  built: BuiltPolicy;
}

const nothing: BuiltPolicies = {
  ...{ byDraft: new Map(), byId: new Map(), all: [], dnsServers: [] },
  rules: originsOf([]),
};
const kinds = ['policy', 'rule', 'selector', 'ruleSet'] as const;

/** Gives ids to new policies, rules, selectors and rule sets. */
export class PolicyTable {
  #entries: ReadonlyMap<PlannedPolicy, Entry> = new Map();
  readonly #digests = new DigestCache();
  #last = nothing;

  /** Parts that are as before are the same objects as before. @throws SelectorOverflow */
  update(planned: readonly PlannedPolicy[], ids: IdSession): BuiltPolicies {
    checkSelectors(planned);
    const former = this.#entries;
    const now = new Map<PlannedPolicy, Entry>();
    const wanted = new Set(planned);
    const fresh: (readonly [PlannedPolicy, Names])[] = [];
    for (const plan of planned) {
      const known = former.get(plan);
      if (known !== undefined && ids.isContinued) {
        now.set(plan, known);
        continue;
      }
      const names = known?.names ?? this.#namesOf(plan);
      if (known === undefined) forEachName(names, (kind, digest) => ids.use(kind, digest));
      fresh.push([plan, names]);
    }
    let isSame = fresh.length === 0 && now.size === former.size;
    for (const [plan, { names }] of former) {
      if (wanted.has(plan)) continue;
      forEachName(names, (kind, digest) => ids.release(kind, digest));
      isSame = false;
    }
    for (const kind of kinds) ids.settle(kind);
    if (isSame) return this.#last;
    for (const [plan, names] of fresh) {
      const built = build(plan, names, ids);
      const known = this.#last.byId.get(built.policy.id);
      const policy = known === undefined ? built.policy : sameAs(known, built.policy);
      now.set(plan, { names, built: { ...built, policy } });
    }
    const ordered = new Map(planned.map((plan) => [plan, now.get(plan) as Entry]));
    this.#entries = ordered;
    this.#last = collect(ordered, this.#last);
    return this.#last;
  }

  #namesOf({ draft, servers, isPrivate, content }: PlannedPolicy): Names {
    const digestOf = (text: string): string => this.#digests.of(text);
    const policy = digestOf(content);
    const origins = new Set(draft.statements.map(({ origin }) => origin));
    origins.delete('');
    const patterns = new Map<string, Pattern>();
    for (const { fqdns } of draft.statements) {
      for (const pattern of fqdns) patterns.set(pattern.text, pattern);
    }
    return {
      policy,
      rules: new Map([...origins].map((origin) => [origin, digestOf(origin)])),
      selectors: [...patterns.values()].map((pattern) => ({
        pattern,
        shared: digestOf(`shared ${pattern.text}`),
        own: isPrivate ? digestOf(`policy ${policy} ${pattern.text}`) : null,
      })),
      ruleSets: servers.map(({ names }) => ({ names, digest: digestOf(namesContent(names)) })),
    };
  }
}

function forEachName(
  { policy, rules, selectors, ruleSets }: Names,
  take: (kind: IdKind, digest: string) => void,
): void {
  take('policy', policy);
  for (const digest of rules.values()) take('rule', digest);
  for (const { shared, own } of selectors) {
    take('selector', shared);
    if (own !== null) take('selector', own);
  }
  for (const { digest } of ruleSets) take('ruleSet', digest);
}

function build({ draft, servers }: PlannedPolicy, names: Names, ids: IdSession): BuiltPolicy {
  const id = ids.idOf('policy', names.policy);
  const selectors: BuiltSelector[] = [];
  const byText = new Map<string, readonly number[]>();
  for (const { pattern, shared, own } of names.selectors) {
    const selectorIds = [ids.idOf('selector', shared)];
    if (own !== null) selectorIds.push(ids.idOf('selector', own));
    for (const [index, selectorId] of selectorIds.entries()) {
      selectors.push({ id: selectorId, pattern, policyId: index === 0 ? noPolicy : id });
    }
    byText.set(pattern.text, selectorIds);
  }
  const ruleIds = new Map<string, number>();
  for (const [origin, digest] of names.rules) ruleIds.set(origin, ids.idOf('rule', digest));
  const rules = draft.statements.map((statement): CompiledRule => {
    const { direction, tier, verdict, peers, ports, origin, fqdns } = statement;
    const fqdnSelectors = fqdns.flatMap(({ text }) => byText.get(text) ?? []);
    const ruleId = ruleIds.get(origin) ?? 0;
    return { direction, tier, verdict, peers, fqdnSelectors, ports, ruleId };
  });
  const tiers = new Map(
    draft.statements.filter(isOrdered).map((each) => [each.origin, { tier: tierText(each) }]),
  );
  const ruleSets = names.ruleSets.map(({ names: set, digest }) => ({
    id: ids.idOf('ruleSet', digest),
    names: set,
  }));
  const own = servers.map(({ server, protocol }, index): MemberServer => {
    return { server, protocol, ruleSetId: (ruleSets[index] as BuiltRuleSet).id };
  });
  return {
    policy: { id, rules, peers: peersOf(draft), flags: draft.flags },
    ...{ servers: own, selectors, ruleSets },
    dnsServers: own.map((entry) => ({ policyId: id, ...entry })),
    fqdns: names.selectors.map(({ pattern }) => pattern),
    origins: [...ruleIds].map(([text, ruleId]) => ({ ruleId, text, ...tiers.get(text) })),
  };
}

/** All policies together. */
function collect(entries: ReadonlyMap<PlannedPolicy, Entry>, former: BuiltPolicies): BuiltPolicies {
  const byDraft = new Map<PolicyDraft, CompiledPolicy>();
  const byId = new Map<PolicyId, CompiledPolicy>();
  for (const [{ draft }, { built }] of entries) {
    byDraft.set(draft, built.policy);
    byId.set(built.policy.id, built.policy);
  }
  const all = [...entries.values()].map(({ built }) => built);
  const dnsServers = all.flatMap((built) => built.dnsServers);
  const areSamePolicies =
    byId.size === former.byId.size &&
    byId.entries().every(([id, policy]) => former.byId.get(id) === policy);
  return {
    ...{ byDraft, all },
    rules: originsOf(all),
    byId: areSamePolicies ? former.byId : byId,
    dnsServers: samePartsAs(former.dnsServers, dnsServers)
      ? former.dnsServers
      : sameAs(former.dnsServers, dnsServers),
  };
}

/** Few ask for them. */
function originsOf(all: readonly BuiltPolicy[]): RuleOrigins {
  let origins: ReadonlyMap<number, RuleOrigin> | null = null;
  const read = (): ReadonlyMap<number, RuleOrigin> => {
    origins ??= new Map(all.flatMap((built) => built.origins.map((each) => [each.ruleId, each])));
    return origins;
  };
  return { get: (ruleId) => read().get(ruleId), all: () => read() };
}

const peersOfDrafts = new WeakMap<PolicyDraft, Peers>();

/** The peers that the specs of a draft name, by key. Of one draft it is one object. */
export function peersOf(draft: PolicyDraft): Peers {
  const known = peersOfDrafts.get(draft);
  if (known !== undefined) return known;
  const peers: Peers = new Map(draft.specs.flatMap((spec) => [...spec.peers]));
  peersOfDrafts.set(draft, peers);
  return peers;
}
