// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The compiler refuses a number of one kind in the place of another; `./run check` reads the expectations below. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EndpointId, GroupIndex, Ifindex, NamespaceId, PolicyId, Revision } from './ids.ts';
import type { EndpointDesired } from './policy/model/desired.ts';

test('numbers of different kinds are told apart', () => {
  const policy = 7 as PolicyId;
  const endpoint: EndpointId = 7;
  // @ts-expect-error -- a policy is no namespace
  const namespace: NamespaceId = policy;
  // @ts-expect-error -- a policy is no endpoint
  const other: EndpointId = policy;
  // @ts-expect-error -- an endpoint is no interface
  const ifindex: Ifindex = endpoint;
  const member: GroupIndex = 1;
  // @ts-expect-error -- an index of the group is no revision
  const revision: Revision = member;
  // @ts-expect-error -- a branded number is made by `as` alone
  const plain: PolicyId = 7;
  const desired: Pick<EndpointDesired, 'policyId' | 'namespaceId'> = {
    // @ts-expect-error -- a namespace is no policy
    policyId: 7 as NamespaceId,
    // @ts-expect-error -- a policy is no namespace
    namespaceId: policy,
  };
  // At run time all are numbers.
  assert.deepEqual([namespace, other, ifindex, revision, plain], [7, 7, 7, 1, 7]);
  assert.deepEqual(desired, { policyId: 7, namespaceId: 7 });
});
