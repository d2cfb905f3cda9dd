// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NamespaceId, PolicyId } from '@tandem/core/ids';
import { parseAddress } from '@tandem/core/net/ip';
import type { AttachedEndpoint } from '../endpoint/attacher.ts';
import { EnforcedPods } from './enforced-pods.ts';
import type { Sandbox } from './sandboxes.ts';

function address(text: string): Uint8Array {
  const parsed = parseAddress(text);
  assert.ok(parsed !== null);
  return parsed;
}

const sandbox: Sandbox = {
  ...{ podKey: 'shop/web', uid: 'uid-2', containerId: 's2', interfaceName: 'cali1' },
  addresses: [address('10.1.0.9')],
};

function endpoint(
  changes: { readonly sandboxId?: string; readonly name?: string } = {},
): AttachedEndpoint {
  const { name = 'cali1', ...rest } = changes;
  return {
    ...{ endpointId: 7, policyId: 1 as PolicyId, classId: 2, flags: 0 },
    namespaceId: 1 as NamespaceId,
    address: address('10.1.0.9'),
    pod: { namespace: 'shop', name: 'web', uid: 'uid-2' },
    interface: {
      ...{ name, vethIfindex: 9, l3Ifindex: 9, isBridged: false },
      ...{ bridgeMac: new Uint8Array(6), mac: new Uint8Array(6) },
    },
    sandboxId: 's2',
    ...rest,
  };
}

function problemWith(...endpoints: readonly AttachedEndpoint[]): string | null {
  const policy = { endpoints, diagnostics: [], onApplied: () => () => undefined };
  return new EnforcedPods(policy, () => unread).problemOf(sandbox);
}
let unread = '';

test('while a kind of policy may not be read no pod starts', () => {
  unread = 'clusternetworkpolicies';
  try {
    assert.match(problemWith(endpoint()) ?? '', /clusternetworkpolicies, which the agent may not/);
  } finally {
    unread = '';
  }
});

test('a sandbox is enforced at its own address and interface', () => {
  assert.equal(problemWith(endpoint()), null);
  assert.match(problemWith() ?? '', /has not received this pod from the API server yet/);
  assert.match(
    problemWith(endpoint({ name: 'cali2' })) ?? '',
    /enforced at cali2, and not yet at cali1/,
  );
  const other = { ...endpoint(), address: address('10.1.0.8') };
  assert.match(problemWith(other) ?? '', /10\.1\.0\.9 is not enforced yet/);
});

test('a sandbox of before with its address and its name of the interface does not stand for it', () => {
  // Calico names the interface after the pod, and addresses may be fixed by an annotation.
  const message = /10\.1\.0\.9 is still enforced as of another sandbox/;
  assert.match(problemWith(endpoint({ sandboxId: 's1' })) ?? '', message);
  const { sandboxId: _, ...fromStatus } = endpoint();
  assert.match(problemWith(fromStatus) ?? '', message);
});
