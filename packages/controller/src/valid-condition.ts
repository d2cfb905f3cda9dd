// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The condition `Valid` of a policy object, with each fault and its place: the findings of `tandem policy validate`. For Cilium's
 * kinds it has Cilium's form: type, status, message and the time of the last transition. For other kinds it has Kubernetes' own form
 * (`metav1.Condition`), which also requires a reason, and has the generation that was read.
 */

import type { ConditionCode, ReasonCode } from '@tandem/core/codes/kubernetes';
import { isPolicyObject } from '@tandem/core/k8s/objects';
import { parseObject } from '@tandem/core/k8s/parse-object';
import { type Fields, isFields } from '@tandem/core/k8s/shape';
import { findingsOf, type PolicyFinding } from '@tandem/core/policy/parse/judge-object';
import { boundedText } from './bounded-text.ts';
import { conditionMessageBytesMax, findingBytesMax } from './limits.ts';

export interface Condition {
  readonly type: ConditionCode;
  readonly status: 'True' | 'False';
  readonly message: string;
  readonly reason?: ReasonCode;
  readonly observedGeneration?: number;
}

/** Message of Cilium for a policy without faults. */
const valid = 'Policy validation succeeded';

/** Null: the object is no policy of ours. */
export function policyFindings(raw: Fields): readonly PolicyFinding[] | null {
  const parsed = parseObject(raw);
  return parsed.ok && isPolicyObject(parsed.value) ? findingsOf(parsed.value) : null;
}

/** `generation`: of the object, for Kubernetes' own form; undefined for that of Cilium. */
export function validCondition(findings: readonly PolicyFinding[], generation?: number): Condition {
  const isValid = findings.every(({ severity }) => severity !== 'error');
  const condition = { type: 'Valid', status: isValid ? 'True' : 'False' } as const;
  const prefix = isValid ? `${valid}, with warnings: ` : '';
  const message =
    findings.length === 0
      ? valid
      : prefix + findingsText(findings, conditionMessageBytesMax - prefix.length);
  if (generation === undefined) return { ...condition, message };
  const ofValid = findings.length === 0 ? 'PolicyValid' : 'PolicyWarning';
  const reason = isValid ? ofValid : 'PolicyInvalid';
  return { ...condition, message, reason, observedGeneration: generation };
}

/** Whether the object has all that the condition says. */
export function isSameCondition(found: FoundCondition | null, condition: Condition): boolean {
  if (found === null) return false;
  const { status, message, reason, observedGeneration } = condition;
  if (found.status !== status || found.message !== message) return false;
  return (
    reason === undefined ||
    (found.reason === reason && found.observedGeneration === observedGeneration)
  );
}

/** All of them, or as many as have room and how many are left out. */
export function findingsText(findings: readonly PolicyFinding[], bytesMax: number): string {
  const texts: string[] = [];
  let bytes = 0;
  for (const [index, { path, message }] of findings.entries()) {
    // A finding without a path may be one of the whole object.
    const text = boundedText(path === '' ? message : `${path}: ${message}`, findingBytesMax);
    const rest = index + 1 < findings.length ? `; and ${findings.length - index} more` : '';
    const next = bytes + Buffer.byteLength(text) + 2;
    if (next + Buffer.byteLength(rest) > bytesMax) {
      texts.push(`and ${findings.length - index} more`);
      break;
    }
    texts.push(text);
    bytes = next;
  }
  return texts.join('; ');
}

export interface FoundCondition {
  readonly status: string;
  readonly message: string;
  readonly lastTransitionTime: string;
  readonly reason: string;
  readonly observedGeneration: unknown;
}

/** The object's condition, of any writer; null: it has none that can be read. */
export function foundCondition({ status }: Fields): FoundCondition | null {
  const conditions = isFields(status) ? status['conditions'] : undefined;
  if (!Array.isArray(conditions)) return null;
  const found: unknown = conditions.find((each) => isFields(each) && each['type'] === 'Valid');
  if (!isFields(found)) return null;
  const text = (field: string): string => {
    const value = found[field];
    return typeof value === 'string' ? value : '';
  };
  return {
    status: text('status'),
    message: text('message'),
    lastTransitionTime: text('lastTransitionTime'),
    reason: text('reason'),
    observedGeneration: found['observedGeneration'],
  };
}
