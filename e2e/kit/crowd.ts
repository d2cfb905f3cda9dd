// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A standard node with sixteen pods that attack, each of a tenant of its own, and a DNS server faster than the members. */

import { fileURLToPath } from 'node:url';
import { startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { dnsPolicy } from './objects.ts';
import {
  type StandardNode,
  standardPolicy,
  standardRules,
  startStandardNode,
} from './standard-node.ts';

const pattern = [{ matchPattern: '**.allowed.test' }];

/** Names of the pods; every other one is behind a bridge. */
export const crowd: readonly string[] = Array.from({ length: 16 }, (_, i) => `attacker${i}`);

/** A program of `e2e/bench/native`. */
export const nativeProgram = (name: string): string =>
  fileURLToPath(new URL(`../bench/native/build/${name}`, import.meta.url));

/** `isTcp`: the server answers over TCP too. */
export async function startCrowd(isTcp = false): Promise<StandardNode> {
  const standard = await startStandardNode({
    pods: crowd.map((name, i) => ({ name, kind: i % 2 === 0 ? 'ptp' : 'bridge' })),
    podObjects: Object.fromEntries(crowd.map((name) => [name, { namespace: `of-${name}` }])),
    policies: [
      standardPolicy,
      ...crowd.map((name) =>
        dnsPolicy({
          namespace: `of-${name}`,
          selects: { app: name },
          dns: pattern,
          fqdns: pattern,
        }),
      ),
    ],
    rules: standardRules,
  });
  // The neighbour would wait for a server that is slower than the members.
  await standard.dns[Symbol.asyncDispose]();
  const { ipv4, ipv6, namespace } = standard.node.pod('dns');
  const addresses = [ipv4, ipv6].flatMap((address) => ['--address', address ?? '']);
  const args = [...addresses, '--port', '53', ...(isTcp ? ['--tcp'] : [])];
  const server = standard.node.own(
    startProcess(...namespace.enter(nativeProgram('upstream'), args)),
  );
  await waitFor(() => server.stdout().includes('ready'), { what: 'the DNS server' });
  return standard;
}
