// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** ARP of a pod behind a bridge that the agent does not know, and what nft has dropped of it. */

import type { Pod, TestNode } from '@tandem/testing/netns';
import { plan } from '@tandem/testing/node-plan';
import { buildPacket } from '@tandem/testing/packet';
import { addressOf } from './attack.ts';

/** ARP by which a pod would take addresses of nobody, its own among them, at the node; the random frames come on top. */
export function arpClaims(pod: Pod): readonly Uint8Array[] {
  const others = ['10.1.2.250', '10.1.2.251', addressOf(pod, '10.')];
  return others.flatMap((senderAddress) =>
    [plan.bridgeMac, 'ff:ff:ff:ff:ff:ff'].flatMap((destination) =>
      (['request', 'reply'] as const).flatMap((operation) =>
        [plan.bridgeGateway4, senderAddress].map((targetAddress) =>
          buildPacket({
            ethernet: { source: pod.mac, destination },
            arp: { operation, senderMac: pod.mac, senderAddress, targetAddress },
          }),
        ),
      ),
    ),
  );
}

/** ARP that nft has dropped at bridges of pods. */
export async function droppedArp(node: TestNode): Promise<number> {
  const text = await node.node.run('nft', ['list', 'chain', 'arp', 'tandem', 'strangers']);
  return [...text.matchAll(/counter packets (\d+)/g)].reduce((sum, [, n]) => sum + Number(n), 0);
}
