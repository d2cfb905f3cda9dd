// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A connection that an unknown pod claims to be open between others (rule 3): from the address that its accomplice would
 * speak to, to the accomplice, whose packets would then pass as replies. In frames that a bridge hands up to the host
 * the kernel confirms in conntrack what it drops a moment later. With the agent alive, and dead.
 */

import { after, describe, test } from 'node:test';
import { plan } from '@tandem/testing/node-plan';
import { buildPacket } from '@tandem/testing/packet';
import { Probe } from '@tandem/testing/probe';
import { addressOf, assertCounted, assertDropped, frameOf } from '../kit/attack.ts';
import { networkPolicy } from '../kit/objects.ts';
import { standardPolicy, startStandardNode } from '../kit/standard-node.ts';

const standard = await startStandardNode({
  pods: [
    { name: 'server' },
    { name: 'accomplice', kind: 'bridge' },
    { name: 'neighbour', kind: 'bridge' },
  ],
  policies: [
    standardPolicy,
    networkPolicy({
      name: 'accomplice',
      selects: { app: 'accomplice' },
      egress: [{ toEntities: ['host'] }],
    }),
  ],
});
after(() => standard[Symbol.asyncDispose]());
const { internet, node, tandem } = standard;
const accomplicePod = node.pod('accomplice');
const accomplice = node.own(Probe.start(accomplicePod.namespace));
const server = node.own(Probe.start(node.pod('server').namespace));
const token = 'no-reply';
const port = 9001;
let ghosts = 200;
let sourcePort = 5000;

for (const state of ['alive', 'dead'] as const) {
  describe(`agent ${state}`, () => {
    if (state === 'dead') test('it is killed', () => tandem.kill('agent'));
    test('lets no packet of the accomplice through as a reply', async () => {
      const number = ghosts++;
      const ghost = await node.addPod({
        name: `ghost${number}`,
        kind: 'bridge',
        ipv4: `10.1.2.${number}`,
        ipv6: `fd00:1:2::${number}`,
      });
      await using probe = Probe.start(ghost.namespace);
      await using atServer = await server.capture({ contains: token });
      await using atInternet = await internet.capture({ contains: token });
      // Whom the frame is for. Addresses of ports are the host's: a bridge hands up what is for them, or for a group.
      const receivers = [
        ...['ff:ff:ff:ff:ff:ff', '01:00:5e:00:00:01', '33:33:00:00:00:01'],
        ...[ghost.hostMac, node.pod('neighbour').hostMac, plan.bridgeMac],
        ...[accomplicePod.mac, '02:11:22:33:44:55'],
      ];
      const parties = [
        [addressOf(node.pod('server'), '10.'), atServer, 'drop_unverified'],
        [addressOf(node.pod('server'), 'fd00::'), atServer, 'drop_unverified'],
        ['203.0.113.5', atInternet, 'drop_unknown_pod'],
        ['2001:db8:3::5', atInternet, 'drop_unknown_pod'],
      ] as const;
      for (const destination of receivers) {
        for (const [party, at, reason] of parties) {
          sourcePort += 1;
          const own = addressOf(accomplicePod, party);
          const claim = buildPacket({
            ethernet: { source: ghost.mac, destination },
            ip: { source: party, destination: own },
            udp: { sourcePort: port, destinationPort: sourcePort },
          });
          await assertCounted(tandem, reason, () => probe.frame(claim));
          const answer = frameOf(accomplicePod, {
            ip: { source: own, destination: party },
            udp: { sourcePort, destinationPort: port },
            payload: token,
          });
          const send = (): Promise<void> => accomplice.frame(answer);
          await assertDropped({ tandem, reason: 'drop_no_match', at, send });
        }
      }
      await node.removePod(ghost.name);
    });
  });
}
