// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Drafts and their DNS servers -> policies with ids, and the members' share of them. A policy whose
 * servers include one that is no trusted resolver gets, for each of its patterns, a selector of its own
 * beside the shared one: what its pods hear from such a server widens nobody else's policy
 * (architecture.md, safety rule 4). That is part of the policy's content, hence of its id.
 */
import type { Pattern } from '../dns/pattern.ts';
import { formatAddress } from '../net/ip.ts';
import { digest128 } from '../sha256.ts';
import type {
  CompiledPolicy,
  CompiledRule,
  DnsServerEntry,
  MemberServer,
  RuleOrigin,
} from './desired.ts';
import { type NameSet, namesContent } from './dns-judge.ts';
import type { DnsServer } from './dns-servers.ts';
import type { IdSource } from './id-session.ts';
import type { MemberPolicyBuilder } from './member-policy.ts';
import type { Peer } from './peer.ts';
import type { PolicyDraft, Statement } from './policy-set.ts';

export interface PlannedPolicy {
  readonly draft: PolicyDraft;
  readonly servers: readonly DnsServer[];
  readonly isPrivate: boolean;
  readonly content: string;
}

export interface BuiltPolicies {
  readonly byDraft: ReadonlyMap<PolicyDraft, CompiledPolicy>;
  readonly dnsServers: readonly DnsServerEntry[];
  readonly rules: ReadonlyMap<number, RuleOrigin>;
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

/** Gives ids to policies, rules, selectors and rule sets, and tells the members about them. */
export function buildPolicies(
  planned: readonly PlannedPolicy[],
  ids: IdSource,
  members: MemberPolicyBuilder,
): BuiltPolicies {
  const policyIds = ids.assign('policy', new Set(planned.map(({ content }) => content)));
  const origins = new Set(
    planned.flatMap(({ draft }) => draft.statements.map(({ origin }) => origin)),
  );
  origins.delete('');
  const ruleIds = ids.assign('rule', origins);
  const shared = ids.assign('selector', sharedContents(planned));
  const ruleSetIds = assignRuleSets(planned, ids, members);

  const byDraft = new Map<PolicyDraft, CompiledPolicy>();
  const dnsServers: DnsServerEntry[] = [];
  for (const plan of planned) {
    const { draft, servers, content } = plan;
    const id = policyIds.get(content) as number;
    const selectorsOf = addSelectors(plan, id, shared, ids, members);
    const rules = draft.statements.map((statement): CompiledRule => {
      const { direction, verdict, peers, ports, origin } = statement;
      const fqdnSelectors = statement.fqdns.flatMap(selectorsOf);
      return { direction, verdict, peers, fqdnSelectors, ports, ruleId: ruleIds.get(origin) ?? 0 };
    });
    byDraft.set(draft, { id, rules, peers: peersOf(draft), flags: draft.flags });
    const own = servers.map(({ server, protocol, names }): MemberServer => {
      return { server, protocol, ruleSetId: ruleSetIds.get(namesContent(names)) as number };
    });
    members.addPolicy(id, own, patternsOf(draft.statements).values());
    dnsServers.push(...own.map((entry) => ({ policyId: id, ...entry })));
  }
  const rules = [...ruleIds].map(([text, ruleId]): [number, RuleOrigin] => [
    ruleId,
    { ruleId, text },
  ]);
  return { byDraft, dnsServers, rules: new Map(rules) };
}

/** The peers that the specs of a draft name, by key. */
export function peersOf(draft: PolicyDraft): ReadonlyMap<string, Peer> {
  return new Map(draft.specs.flatMap(({ peers }) => [...peers]));
}

function patternsOf(statements: readonly Statement[]): ReadonlyMap<string, Pattern> {
  const patterns = statements.flatMap(({ fqdns }) => fqdns);
  return new Map(patterns.map((pattern) => [pattern.text, pattern]));
}

function sharedContent(text: string): string {
  return `shared ${text}`;
}

function sharedContents(planned: readonly PlannedPolicy[]): ReadonlySet<string> {
  const contents = new Set<string>();
  for (const { draft } of planned) {
    for (const text of patternsOf(draft.statements).keys()) contents.add(sharedContent(text));
  }
  return contents;
}

/** Adds the selectors of one policy; returns the ids that a pattern of it stands for. */
function addSelectors(
  { draft, isPrivate, content }: PlannedPolicy,
  policyId: number,
  shared: ReadonlyMap<string, number>,
  ids: IdSource,
  members: MemberPolicyBuilder,
): (pattern: Pattern) => readonly number[] {
  const patterns = patternsOf(draft.statements);
  const prefix = `policy ${digest128(content)}`;
  const texts = isPrivate ? [...patterns.keys()] : [];
  const own = ids.assign(
    'selector',
    texts.map((text) => `${prefix} ${text}`),
  );
  const byText = new Map<string, readonly number[]>();
  for (const [text, pattern] of patterns) {
    const sharedId = shared.get(sharedContent(text)) as number;
    members.addSelector(sharedId, pattern, 0);
    const ownId = own.get(`${prefix} ${text}`);
    if (ownId !== undefined) members.addSelector(ownId, pattern, policyId);
    byText.set(text, ownId === undefined ? [sharedId] : [sharedId, ownId]);
  }
  return ({ text }) => byText.get(text) ?? [];
}

function assignRuleSets(
  planned: readonly PlannedPolicy[],
  ids: IdSource,
  members: MemberPolicyBuilder,
): ReadonlyMap<string, number> {
  const byContent = new Map<string, NameSet>();
  for (const { servers } of planned) {
    for (const { names } of servers) byContent.set(namesContent(names), names);
  }
  const ruleSetIds = ids.assign('ruleSet', byContent.keys());
  for (const [content, { matchAll, patterns }] of byContent) {
    members.addRuleSet(ruleSetIds.get(content) as number, matchAll, patterns.values());
  }
  return ruleSetIds;
}
