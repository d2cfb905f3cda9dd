// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The kinds of listeners: transport, family, and whose datagrams each takes (docs/adr/0022-lanes.md). */

import type { Branded } from '@tandem/core/brand';
import { tdListenerKind } from '@tandem/datapath/abi.gen';

/** Handle of a UDP listener in the loop of the listeners, own or another member's. A descriptor is another number. */
export type ListenerHandle = Branded<'ListenerHandle'>;

/** By td_listener_kind. */
export const listenerKinds: readonly (readonly ['udp' | 'tcp', 4 | 6])[] = [
  ['udp', 4],
  ['tcp', 4],
  ['udp', 6],
  ['tcp', 6],
  ['udp', 4],
  ['udp', 6],
];

/** For the datagrams of pods that ask much. */
export function isHeavy(kind: number): boolean {
  return kind >= tdListenerKind.KINDS;
}

/** The kind of the same transport and family that every member has. */
export function firstLane(kind: number): number {
  if (kind === tdListenerKind.UDP4_HEAVY) return tdListenerKind.UDP4;
  return kind === tdListenerKind.UDP6_HEAVY ? tdListenerKind.UDP6 : kind;
}
