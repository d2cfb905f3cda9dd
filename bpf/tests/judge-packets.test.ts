// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** judge: packets of no connection, fragments, ICMP errors. Safety rule 14. */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { mappedAddressBytes } from '@tandem/testing/address';
import { buildFragments } from '@tandem/testing/packet';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture } from './fixture.ts';
import {
  a4,
  a6,
  addRule,
  b4,
  b6,
  conntrack,
  dns4,
  expectVerdict,
  type Facts,
  remote4,
  remote6,
  seenFromA,
  setUpJudge,
  tcp,
  udp,
  uplink,
} from './judge-world.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());
beforeEach(() => setUpJudge(fixture));

describe('packets of no connection', () => {
  test('neighbour and listener discovery on the link, nowhere else', () => {
    for (const type of [133, 135, 136]) {
      const packet = (ttl: number): PacketSpec => ({
        ip: { source: a6, destination: b6, ttl },
        icmp: { type },
        payload: new Uint8Array(16),
      });
      expectVerdict(fixture, packet(255), seenFromA, 'FORWARDED');
      expectVerdict(fixture, packet(254), seenFromA, 'DROP_NO_MATCH');
    }
    const report: PacketSpec = {
      ip: { source: a6, destination: 'ff02::16', ttl: 1 },
      icmp: { type: 143 },
    };
    expectVerdict(fixture, report, seenFromA, 'FORWARDED');
  });

  test('fragments that nobody reassembled', () => {
    addRule(fixture, 40);
    const [head, tail] = buildFragments({ ...udp(a4, remote4), payload: 'x'.repeat(64) }, 32);
    assert.ok(head !== undefined && tail !== undefined);
    expectVerdict(fixture, head, seenFromA, 'DROP_FRAGMENT');
    expectVerdict(fixture, tail, seenFromA, 'DROP_FRAGMENT');
    const [transit] = buildFragments(
      { ...udp(remote4, '192.168.60.1'), payload: 'x'.repeat(64) },
      32,
    );
    assert.ok(transit !== undefined);
    expectVerdict(fixture, transit, { ifindex: uplink }, 'NO_ENDPOINT', 'local-in');
  });

  test('a checksum that is to be written over what is judged, and where it belongs', () => {
    addRule(fixture, 40);
    for (const [packet, own] of [
      [udp(a4, remote4), 20 + 6],
      [tcp(a4, remote4), 20 + 16],
    ] as const) {
      const at = (checksum_at: number): Readonly<Record<string, number>> => ({
        ...seenFromA,
        checksum_at,
      });
      // The source's Ethernet address, which from_pod has verified and which a bridge leaves as it is.
      expectVerdict(fixture, packet, at(-8), 'DROP_PARSE');
      expectVerdict(fixture, packet, at(20 + 2), 'DROP_PARSE');
      expectVerdict(fixture, packet, at(own - 1), 'DROP_PARSE');
      expectVerdict(fixture, packet, at(own), 'FORWARDED');
      expectVerdict(fixture, packet, at(own + 40), 'FORWARDED');
    }
  });

  test('a transport header cut short', () => {
    addRule(fixture, 40);
    expectVerdict(
      fixture,
      { ip: { source: a4, destination: remote4, protocol: 6 }, payload: 'xy' },
      seenFromA,
      'DROP_PARSE',
    );
    expectVerdict(
      fixture,
      { ip: { source: remote4, destination: '192.168.60.1', protocol: 6 }, payload: 'xy' },
      { ifindex: uplink },
      'NO_ENDPOINT',
      'local-in',
    );
  });
});

describe('ICMP errors (rule 14)', () => {
  const error = (source: string, destination: string): PacketSpec => ({
    ip: { source, destination },
    icmp: { type: 3, code: 1, quoted: tcp(destination, source) },
  });
  const flow = (client: string, frontend: string, backend: string): Facts => ({
    tracked: 1,
    info: conntrack.related,
    client: mappedAddressBytes(client),
    frontend: mappedAddressBytes(frontend),
    backend: mappedAddressBytes(backend),
  });

  test('of a router, and of a party', () => {
    expectVerdict(
      fixture,
      error('198.51.100.7', a4),
      { ...flow(a4, remote4, remote4), ifindex: uplink },
      'RELATED',
    );
    expectVerdict(
      fixture,
      error(a4, remote4),
      { ...flow(a4, remote4, remote4), ...seenFromA },
      'RELATED',
    );
    expectVerdict(
      fixture,
      error(a4, remote4),
      { ...flow(remote4, a4, a4), ...seenFromA },
      'RELATED',
    );
    expectVerdict(
      fixture,
      error(a4, remote4),
      { ...flow(remote4, dns4, a4), ...seenFromA },
      'RELATED',
    );
  });

  test('of a pod about a flow of others', () => {
    expectVerdict(
      fixture,
      error(a4, b4),
      { ...flow(b4, remote4, remote4), ...seenFromA },
      'DROP_ICMP_ERROR',
    );
    const error6: PacketSpec = {
      ip: { source: a6, destination: b6 },
      icmp: { type: 1, quoted: tcp(b6, remote6) },
    };
    expectVerdict(
      fixture,
      error6,
      { ...flow(b6, remote6, remote6), ...seenFromA },
      'DROP_ICMP_ERROR',
    );
    expectVerdict(fixture, error6, { ...flow(b6, a6, a6), ...seenFromA }, 'RELATED');
  });

  test("of a pod about a flow of the host's, at LOCAL_IN (F10)", () => {
    addRule(fixture, 30);
    const relatedReply = conntrack.related + conntrack.reply;
    for (const info of [conntrack.related, relatedReply]) {
      expectVerdict(
        fixture,
        error(a4, '192.168.60.1'),
        { ...flow('192.168.60.1', remote4, remote4), info, ...seenFromA },
        'DROP_ICMP_ERROR',
        'local-in',
      );
      expectVerdict(
        fixture,
        { ip: { source: a6, destination: 'fd00:60::1' }, icmp: { type: 1, quoted: tcp(a6, b6) } },
        { ...flow('fd00:60::1', remote6, remote6), info, ...seenFromA },
        'DROP_ICMP_ERROR',
        'local-in',
      );
    }
    // of the party, and of a router
    expectVerdict(
      fixture,
      error(a4, '192.168.60.1'),
      { ...flow('192.168.60.1', a4, a4), info: relatedReply, ...seenFromA },
      'HOST',
      'local-in',
    );
    expectVerdict(
      fixture,
      error('198.51.100.7', '192.168.60.1'),
      { ...flow('192.168.60.1', remote4, remote4), info: relatedReply, ifindex: uplink },
      'NO_ENDPOINT',
      'local-in',
    );
  });

  test('a redirect is of no connection, whatever flow conntrack relates it to', () => {
    const info = conntrack.related + conntrack.reply;
    for (const [destination, hook] of [
      ['192.168.60.1', 'local-in'],
      [b4, 'post-routing'],
      [remote4, 'post-routing'],
    ] as const) {
      expectVerdict(
        fixture,
        {
          ip: { source: a4, destination },
          icmp: { type: 5, code: 1, quoted: tcp(destination, '10.1.0.13') },
        },
        { ...flow(destination, '10.1.0.13', '10.1.0.13'), info, ...seenFromA },
        'DROP_NO_MATCH',
        hook,
      );
    }
  });

  test('without a flow it is a packet like any other', () => {
    expectVerdict(fixture, error(a4, remote4), seenFromA, 'DROP_NO_MATCH');
  });

  test('related, but no error: judged as new', () => {
    expectVerdict(
      fixture,
      tcp(a4, remote4),
      { ...flow(a4, remote4, remote4), ...seenFromA },
      'DROP_NO_MATCH',
    );
  });
});
