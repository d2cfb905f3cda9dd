// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The zones of the comparison "proxied as direct": every kind of record and of name that makes a server answer
 * in a way of its own. The same text in every run; the signatures are the server's.
 */

import type { KnotZone } from '@tandem/testing/knot';

const letters = 'abcdefghijklmnopqrstuvwxyz0123456789';

/** A label of so many octets. */
const label = (length: number): string => 'x'.repeat(length);
/** Just what fits into 255 octets before .signed.test. */
export const longestLabels: string = [label(63), label(63), label(63), label(48)].join('.');

/** Strings of 255 characters that make RDATA of about so many octets. */
function strings(octets: number): string {
  return Array.from({ length: Math.ceil(octets / 256) }, (_, i) => {
    const text = letters.slice(i % letters.length) + letters.slice(0, i % letters.length);
    return `"${text.repeat(8).slice(0, 255)}"`;
  }).join(' ');
}

const lines = (count: number, line: (index: number) => string): string[] =>
  Array.from({ length: count }, (_, index) => line(index));

const records = [
  '@ SOA ns1 hostmaster 1 3600 600 86400 60',
  '@ NS ns1',
  '@ NS ns2',
  '@ A 192.0.2.1',
  '@ AAAA 2001:db8::1',
  '@ MX 10 mail',
  '@ MX 20 mail.plain.test.',
  '@ TXT "v=spf1 -all"',
  '@ CAA 0 issue "ca.test"',
  'ns1 A 192.0.2.53',
  'ns2 AAAA 2001:db8::53',
  'mail A 192.0.2.25',
  'mail AAAA 2001:db8::25',
  'www A 192.0.2.2',
  'www AAAA 2001:db8::2',
  'v4 A 192.0.2.3',
  'v6 AAAA 2001:db8::3',
  'MiXeD A 192.0.2.4',
  ...lines(12, (i) => `dozen A 198.51.100.${i}`),
  ...lines(230, (i) => `many A 198.51.100.${i}`),
  ...lines(120, (i) => `many AAAA 2001:db8:2::${(i + 1).toString(16)}`),
  `${longestLabels} A 192.0.2.5`,
  `${label(63)} A 192.0.2.6`,
  '_service._tcp SRV 0 5 443 www',
  '_service._tcp SRV 10 5 443 mail',
  '_service._tcp SRV 20 0 443 .',
  'naptr NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:info@signed.test!" .',
  'svc SVCB 1 www alpn="h2,h3" port=8443 ipv4hint=192.0.2.2 ipv6hint=2001:db8::2',
  'svc HTTPS 1 . alpn="h3" ech="AEX+DQA="',
  'svcalias HTTPS 0 www',
  '_443._tcp.www TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef',
  'odd SSHFP 4 2 123456789abcdef67890123456789abcdef67890123456789abcdef123456789',
  'odd URI 10 1 "https://www.signed.test/"',
  'odd LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m',
  'odd HINFO "cpu" "os"',
  'odd RP hostmaster txt',
  'odd AFSDB 1 www',
  'odd PTR www',
  'odd EUI48 00-00-5e-00-53-2a',
  'odd CERT 1 0 0 AAAA',
  'odd OPENPGPKEY AAAA',
  'odd SPF "v=spf1 -all"',
  'odd TYPE65280 \\# 4 0a000001',
  'odd TYPE731 \\# 0',
  'txt TXT "one" "two" ""',
  'txt TXT "\\000\\255\\"\\\\"',
  `txt600 TXT ${strings(600)}`,
  `txt1200 TXT ${strings(1200)}`,
  `txt2k TXT ${strings(2000)}`,
  `txt5k TXT ${strings(5000)}`,
  `txt58k TXT ${strings(58_000)}`,
  ...lines(9, (i) => `alias${i} CNAME alias${i + 1}`),
  'alias9 CNAME www',
  'loop1 CNAME loop2',
  'loop2 CNAME loop1',
  'self CNAME self',
  'away CNAME www.plain.test.',
  'outside CNAME www.elsewhere.example.',
  'dangling CNAME nothing.here',
  'towild CNAME any.wild',
  'todelegation CNAME www.insecure',
  'tree DNAME other',
  'tree TXT "the name itself"',
  'www.other A 192.0.2.7',
  'awaytree DNAME plain.test.',
  `overlong DNAME ${longestLabels}`,
  '*.wild A 192.0.2.8',
  '*.wild TXT "wild"',
  'fixed.wild A 192.0.2.9',
  '*.wildalias CNAME www',
  '*.wildmail MX 10 mail',
  'a.b.ent A 192.0.2.10',
  'insecure NS ns.insecure',
  'ns.insecure A 192.0.2.11',
  'ns.insecure AAAA 2001:db8::11',
  'secure NS ns.secure',
  'secure DS 4711 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef',
  'ns.secure A 192.0.2.12',
  'lame NS ns.elsewhere.example.',
  'sp\\032ace A 192.0.2.13',
  'nul\\000octet A 192.0.2.14',
  'dot\\.inside A 192.0.2.15',
  'high\\255octet A 192.0.2.16',
  '_under_score A 192.0.2.17',
  'star.*.middle A 192.0.2.18',
] as const;

const text = (origin: string): string =>
  [`$ORIGIN ${origin}.`, '$TTL 300', ...records, ''].join('\n');

export const differentialZones: readonly KnotZone[] = [
  { name: 'signed.test', text: text('signed.test'), signed: 'nsec3' },
  { name: 'nsec.test', text: text('nsec.test'), signed: 'nsec' },
  { name: 'plain.test', text: text('plain.test') },
];

/** Names below a zone that are asked for; the empty one is the zone. */
export const differentialNames: readonly string[] = [
  ...['', 'ns1', 'mail', 'www', 'v4', 'v6', 'mixed', 'MIXED', 'dozen', 'many'],
  ...[longestLabels, label(63), '_service._tcp', '_tcp', 'naptr', 'svc', 'svcalias'],
  ...['_443._tcp.www', 'odd', 'txt', 'txt600', 'txt1200', 'txt2k', 'txt5k', 'txt58k'],
  ...['alias0', 'alias5', 'alias9', 'loop1', 'self', 'away', 'outside', 'dangling', 'towild'],
  ...['todelegation', 'tree', 'www.tree', 'a.b.c.tree', 'awaytree', 'www.awaytree'],
  ...[`${label(63)}.overlong`, 'any.wild', 'fixed.wild', 'a.b.wild', '*.wild', 'wild'],
  ...['x.wildalias', 'x.wildmail', 'ent', 'b.ent', 'a.b.ent', 'c.b.ent', 'nothing.here'],
  ...['nothing', 'insecure', 'www.insecure', 'ns.insecure', 'secure', 'www.secure', 'lame'],
  ...['sp\\032ace', 'nul\\000octet', 'dot\\046inside', 'high\\255octet', '_under_score'],
  ...['star.*.middle', 'star.x.middle'],
];
