// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeLinkCounts } from './link-counts.ts';

/** Attribute of netlink in the byte order of this machine, its length padded to four octets. */
function attribute(type: number, value: Uint8Array): Uint8Array {
  const padded = new Uint8Array((4 + value.length + 3) & ~3);
  padded.set(new Uint8Array(Uint16Array.of(4 + value.length, type).buffer));
  padded.set(value, 4);
  return padded;
}

/** Numbers of linux/if_link.h, as rtnl_fill_ifinfo() writes them: IFLA_XDP is without NLA_F_NESTED. */
const ifla = { stats: 7, xdp: 43 };
const xdpAttached = 2;

/** A struct ifinfomsg of interface 7, which has received 5 packets and sent 9, and `more`. */
function linkMessage(more: Uint8Array): Uint8Array {
  const header = new Uint8Array(16);
  new Int32Array(header.buffer)[1] = 7;
  const stats = new Uint8Array(Uint32Array.from({ length: 24 }, (_, i) => [5, 9][i] ?? 77).buffer);
  return Uint8Array.from([...header, ...attribute(ifla.stats, stats), ...more]);
}

const counts = { ifindex: 7, received: 5, sent: 9 };

/** Values of XDP_ATTACHED_*: in the driver, for any interface, in the device, more than one. */
for (const mode of [1, 2, 3, 4]) {
  test(`an XDP program is attached: mode ${mode}`, () => {
    const xdp = attribute(ifla.xdp, attribute(xdpAttached, Uint8Array.of(mode)));
    assert.deepEqual(decodeLinkCounts(linkMessage(xdp)), { ...counts, hasXdp: true });
  });
}

test('no XDP program is attached: XDP_ATTACHED_NONE, or no word of XDP', () => {
  const none = attribute(ifla.xdp, attribute(xdpAttached, Uint8Array.of(0)));
  for (const more of [none, new Uint8Array(0)]) {
    assert.deepEqual(decodeLinkCounts(linkMessage(more)), { ...counts, hasXdp: false });
  }
});
