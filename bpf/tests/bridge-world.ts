// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A bridge of pods beside those of judge-world.ts: `ifindex` is the bridge, `bridge_port` the port that br_netfilter saw. */

import type { Fixture } from './fixture.ts';
import { addRule } from './judge-world.ts';

export const cni0 = 30;
export const docker0 = 31;
export const portC = 32;
export const portD = 33;
export const strangerPort = 34;
export const dockerPort = 35;
export const tunnel = 36;
export const c4 = '10.1.2.11';
export const c6 = 'fd00:1:2::11';
export const d4 = '10.1.2.12';

/** Two pods on a bridge, open but for c's egress: allowed are the world and d. */
export function setUpBridge(fixture: Fixture): void {
  for (const address of [c4, c6]) {
    fixture.endpoint(address, {
      id: 3,
      policyId: 3,
      ifindex: portC,
      l3Ifindex: cni0,
      classId: 53,
      flags: ['ENFORCE_EGRESS', 'BRIDGED'],
    });
  }
  fixture.endpoint(d4, {
    id: 4,
    policyId: 4,
    ifindex: portD,
    l3Ifindex: cni0,
    classId: 54,
    flags: ['BRIDGED'],
  });
  fixture.device(cni0, 'STRANGER');
  fixture.device(strangerPort, 'STRANGER');
  fixture.device(docker0, 'OUTSIDE');
  fixture.device(dockerPort, 'OUTSIDE');
  fixture.device(tunnel, 'OUTSIDE');
  for (const peer of [40, 41, 52, 54]) addRule(fixture, peer, { policyId: 3 });
  fixture.class('2001:db8::', 32, 41);
}
