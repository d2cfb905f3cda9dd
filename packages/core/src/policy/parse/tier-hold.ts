// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The substitute for a ClusterNetworkPolicy that cannot be enforced: a denial in its own tier and at its priority, so that one of
 * the Baseline tier denies only where nothing else isolates, and rules of the Admin tier that come before it go on. Rules that
 * Accept are no reason to deny: without them nothing more passes. A Pass is one, because it may keep a packet from an Accept.
 */

import type { PolicyObject } from '../../k8s/objects.ts';
import { tierSpecFields } from '../../k8s/parse-policy-object.ts';
import { type Fields, isFields } from '../../k8s/shape.ts';
import { tierPriorityMax } from '../../limits.ts';
import { Direction } from '../model/kernel-numbers.ts';
import { podNamespaceLabel } from '../model/labels.ts';
import type { HoldScope, PolicyRule, PolicySpec, SpecTier } from '../model/rule.ts';
import type { LabelRequirement } from '../model/selector.ts';
import { salvageTierSubject } from './parse-pod-selector.ts';

interface TierHold {
  readonly hold: readonly PolicySpec[];
  readonly holdScope: HoldScope;
}

/** For an object that cannot be read. `isBody`: `fields` are those of a mapping. */
export function holdOfTier(fields: Fields, isBody: boolean, object: PolicyObject): TierHold {
  const { subject: given, ingress, egress } = fields;
  const { subject, isWhole: isReadable } = salvageTierSubject(isFields(given) ? given : {});
  const isIntact = isBody && object.damage === null;
  const isWhole = isReadable && isIntact;
  if (!isWhole && subject.requirements.every(isOfAnyPod)) return { hold: [], holdScope: 'unknown' };
  const isClear = isIntact && Object.keys(fields).every((each) => tierSpecFields.includes(each));
  const isNone = ingress === undefined && egress === undefined;
  const closes = (section: unknown): boolean => !isClear || isNone || !onlyAccepts(section);
  const hold = denial(subject, tierOf(fields), closes(ingress), closes(egress));
  if (hold.length === 0) return { hold, holdScope: 'accepts' };
  return { hold, holdScope: isWhole ? 'selected' : 'superset' };
}

/** Every selector of namespaces has it, and it bounds nothing. */
function isOfAnyPod({ name, operator }: LabelRequirement): boolean {
  return name === podNamespaceLabel && operator === 'Exists';
}

/** For one that can be read, but not carried. */
export function tierHoldOfSpec({ subject, rules }: PolicySpec, tier: SpecTier): PolicySpec[] {
  const narrows = (direction: Direction): boolean =>
    rules.some((rule) => rule.direction === direction && rule.action !== 'allow');
  return denial(subject, tier, narrows(Direction.ingress), narrows(Direction.egress));
}

/** Tier and priority; a part that cannot be read counts as the one that denies most. */
function tierOf({ tier, priority }: Fields): SpecTier {
  const isPriority =
    typeof priority === 'number' && Number.isInteger(priority) && priority <= tierPriorityMax;
  return {
    name: tier === 'Baseline' ? 'baseline' : 'admin',
    priority: isPriority ? Math.max(priority, 0) : 0,
  };
}

/** Absent and empty sections do nothing. */
function onlyAccepts(section: unknown): boolean {
  if (section === undefined || section === null) return true;
  if (!Array.isArray(section)) return false;
  return section.every((rule: unknown) => isFields(rule) && rule['action'] === 'Accept');
}

function denial(
  subject: PolicySpec['subject'],
  tier: SpecTier,
  ingress: boolean,
  egress: boolean,
): PolicySpec[] {
  if (!ingress && !egress) return [];
  const rules = [
    ...(ingress ? [denyAll(Direction.ingress)] : []),
    ...(egress ? [denyAll(Direction.egress)] : []),
  ];
  const denied = { denyIngress: false, denyEgress: false };
  return [{ subject, hasIngress: ingress, hasEgress: egress, ...denied, rules, tier }];
}

function denyAll(direction: Direction): PolicyRule {
  const all = { peers: 'any', fqdns: [], ports: 'any' } as const;
  return { direction, action: 'deny', ...all, path: '(held)', index: 0 };
}
