// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Findings about one policy object, the same for the agent, `tandem policy validate` and the controller. */

import type { PolicyObject } from '../../k8s/objects.ts';
import { err, type Result } from '../../result.ts';
import type { InvalidPolicy, Policy } from '../model/rule.ts';
import { parsePolicy } from './parse-policy.ts';
import { coarseHoldOf } from './policy-hold.ts';

export interface PolicyFinding {
  /** An object with one error is wholly refused. */
  readonly severity: 'error' | 'warning';
  readonly code: 'policy-invalid' | 'policy-warning';
  /** "spec.egress[0].toPorts"; empty: the object as a whole. */
  readonly path: string;
  /** Fault and fix. */
  readonly message: string;
}

/** As `parsePolicy`; a bug that one object meets must not keep the others from being read. */
export function parsePolicySafely(object: PolicyObject): Result<Policy, InvalidPolicy> {
  try {
    return parsePolicy(object);
  } catch (error) {
    const { kind, namespace, name } = object;
    const reason = error instanceof Error ? error.message : String(error);
    const message = `cannot be read, which is a bug of this version (${reason})`;
    const ref = { kind, namespace, name };
    return err({ ref, errors: [{ path: '', message }], ...coarseHoldOf(object) });
  }
}

export function findingsOf(object: PolicyObject): readonly PolicyFinding[] {
  const policy = parsePolicySafely(object);
  const issues = policy.ok ? policy.value.warnings : policy.error.errors;
  return issues.map(({ path, message }) =>
    policy.ok
      ? { severity: 'warning', code: 'policy-warning', path, message }
      : { severity: 'error', code: 'policy-invalid', path, message },
  );
}
