// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A policy object of a kind with one `spec`: the result of its faults, for any spec. */

import type { PolicyObject } from '../../k8s/objects.ts';
import { err, ok, type Result } from '../../result.ts';
import type { InvalidPolicy, Policy, PolicyRef, PolicySpec } from '../model/rule.ts';
import { ParseContext } from './parse-context.ts';
import { holdOfObject } from './policy-hold.ts';

/** `parseSpec`: null, or errors in the context, make the object invalid. It is not called for an absent spec. */
export function parseOneSpec(
  object: PolicyObject,
  parseSpec: (body: unknown, context: ParseContext) => PolicySpec | null,
): Result<Policy, InvalidPolicy> {
  const { kind, namespace, name } = object;
  const ref: PolicyRef = { kind, namespace, name };
  if (object.damage !== null) {
    return err({ ref, errors: [{ path: '', message: object.damage }], ...holdOfObject(object) });
  }
  const context = new ParseContext(namespace);
  for (const { path, message } of object.faults) context.error(path, message);
  if (object.spec === undefined) context.error('spec', 'is missing');
  const spec = object.spec === undefined ? null : parseSpec(object.spec, context);
  if (context.errors.any || spec === null) {
    return err({ ref, errors: context.errors.list(), ...holdOfObject(object) });
  }
  return ok({ ref, specs: [spec], warnings: context.warnings.list() });
}
