// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeMessage } from './encode.ts';
import { decodeLink, linkFormat } from './link.ts';

/** The kernel of the tests has no interface of bare UDP. Numbers of the attributes: linux/if_link.h. */
for (const [kind, type, port] of [
  ['vxlan', 15, 4789],
  ['geneve', 5, 6081],
  ['bareudp', 1, 6635],
  ['gretap', 1, 0],
] as const) {
  test(`the port at which packets come out of a tunnel: ${kind}, ${port}`, () => {
    const data = new Uint8Array(8);
    data.set(new Uint8Array(Uint16Array.of(6, type).buffer));
    new DataView(data.buffer).setUint16(4, port === 0 ? 6635 : port);
    const info = { kind, data };
    const payload = encodeMessage(linkFormat, { ifindex: 7 }, { name: 'tunnel0', info });
    assert.equal(decodeLink(payload)?.tunnelPort, port);
  });
}
