// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Policies of one spec, for the tests of parsing. */

import assert from 'node:assert/strict';
import type { PolicyKind } from '../src/k8s/objects.ts';
import { parseObject } from '../src/k8s/parse-object.ts';
import type { InvalidPolicy, Policy, PolicyRule, PolicySpec } from '../src/policy/model/rule.ts';
import { parseCiliumPolicy } from '../src/policy/parse/parse-cilium.ts';
import type { Result } from '../src/result.ts';

export type Body = Readonly<Record<string, unknown>>;

export function parse(
  body: Body,
  kind: PolicyKind = 'CiliumNetworkPolicy',
): Result<Policy, InvalidPolicy> {
  const metadata = { name: 'p', ...(kind === 'CiliumNetworkPolicy' ? { namespace: 'shop' } : {}) };
  const object = parseObject({ apiVersion: 'cilium.io/v2', kind, metadata, ...body });
  assert(object.ok && object.value.kind === kind);
  return parseCiliumPolicy(object.value);
}

/** The spec of a policy that must be valid. */
export function specOf(spec: Body, kind?: PolicyKind): PolicySpec {
  const parsed = parse({ spec: { endpointSelector: {}, ...spec } }, kind);
  assert(parsed.ok, parsed.ok ? '' : JSON.stringify(parsed.error.errors));
  const [only] = parsed.value.specs;
  assert(only !== undefined);
  return only;
}

export function ruleOf(spec: Body, kind?: PolicyKind): PolicyRule {
  const [only, ...others] = specOf(spec, kind).rules;
  assert(only !== undefined && others.length === 0);
  return only;
}

/** `path message` of each error. */
export function errorsOf(spec: Body, kind?: PolicyKind): readonly string[] {
  const parsed = parse({ spec: { endpointSelector: {}, ...spec } }, kind);
  return parsed.ok ? [] : parsed.error.errors.map(({ path, message }) => `${path} ${message}`);
}

export const dns53: Body = {
  ports: [{ port: '53', protocol: 'UDP' }],
  rules: { dns: [{ matchPattern: '*' }] },
};
export const many = (count: number): readonly unknown[] =>
  Array.from({ length: count }, (_, index) => ({ port: String(index + 1) }));
