// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The questions of the comparison "proxied as direct": the same in every run, each once. */

import assert from 'node:assert/strict';
import { tcpQueryBytesMax, udpQueryBytesMax } from '@tandem/dns-proxy/limits';
import { differentialNames } from './differential-zones.ts';
import { type EdnsOption, type EdnsSpec, flagsRd, type MessageSpec, query } from './dns-message.ts';
import { oddMessages } from './odd-messages.ts';

export interface ComparedQuestion {
  readonly what: string;
  /** The message with id 0. */
  readonly bytes: Uint8Array;
  /** No resolver would ask so: over TCP it gets a connection of its own, for the server may close that. */
  readonly isOdd: boolean;
}

const flag = { aa: 0x0400, tc: 0x0200, rd: flagsRd, ra: 0x0080, z: 0x0040, ad: 0x0020, cd: 0x0010 };
const typeA = 1;
const typeTxt = 16;
const types = [
  ...[1, 2, 5, 6, 12, 13, 15, 16, 17, 18, 28, 29, 33, 35, 37, 39, 43, 44, 46, 47, 48, 50, 51, 52],
  ...[59, 60, 61, 64, 65, 99, 108, 255, 256, 257, 731, 65_280],
  // Nothing that a zone can hold, and types of queries.
  ...[0, 10, 41, 62, 249, 250, 253, 65_535],
] as const;

type Shape = Omit<MessageSpec, 'name' | 'type'>;

/** How ordinary resolvers ask; the grid of names and types takes them in turn. */
const shapes: readonly Shape[] = [
  {},
  { flags: 0 },
  { edns: { size: 1232 } },
  { edns: { size: 1232, dnssecOk: true } },
  { flags: flag.rd | flag.cd, edns: { size: 4096, dnssecOk: true } },
  { flags: flag.rd | flag.ad, edns: { size: 512, dnssecOk: true } },
  { flags: flag.cd, edns: { size: 65_535, dnssecOk: true } },
];

const option = (code: number, data: string | Uint8Array = ''): EdnsOption => ({
  code,
  data: typeof data === 'string' ? Uint8Array.from(Buffer.from(data, 'hex')) : data,
});
const clientCookie = '0102030405060708';
const optionSets: Readonly<Record<string, readonly EdnsOption[]>> = {
  nsid: [option(3)],
  'nsid with data': [option(3, '0102')],
  'client cookie': [option(10, clientCookie)],
  'client cookie and a server cookie of nobody': [
    option(10, `${clientCookie}01000000000000000102030405060708`),
  ],
  'cookie of 7 octets': [option(10, '01020304050607')],
  'cookie of 15 octets': [option(10, '010203040506070809101112131415')],
  'cookie of 41 octets': [option(10, new Uint8Array(41))],
  'client subnet, IPv4': [option(8, '00011800c63364')],
  'client subnet, IPv6': [option(8, '0002300020010db80001')],
  'client subnet, none': [option(8, '00010000')],
  'client subnet with octets beyond its prefix': [option(8, '00011000c63364')],
  'client subnet with a scope': [option(8, '00011810c63364')],
  'client subnet of family 7': [option(8, '00071800c63364')],
  'client subnet, cut': [option(8, '0001')],
  expire: [option(9)],
  'expire with data': [option(9, '00000001')],
  keepalive: [option(11)],
  'keepalive with a time': [option(11, '0064')],
  'keepalive with three octets': [option(11, '006400')],
  'padding of 0': [option(12)],
  'padding of 128': [option(12, new Uint8Array(128))],
  'padding of 600': [option(12, new Uint8Array(600))],
  'padding of 850': [option(12, new Uint8Array(850))],
  'padding of 1150': [option(12, new Uint8Array(1150))],
  'padding of 1250': [option(12, new Uint8Array(1250))],
  'padding of 3000': [option(12, new Uint8Array(3000))],
  'padding of 5000': [option(12, new Uint8Array(5000))],
  chain: [option(13, '00')],
  'key tag': [option(14, '4f66')],
  'extended error': [option(15, '0012')],
  'DAU, DHU, N3U': [option(5, '080d'), option(6, '0102'), option(7, '01')],
  'report channel': [option(18, '00')],
  'zone version': [option(19)],
  'LLQ and UL': [option(1, '000100010000'), option(2, '00000e10')],
  'code 0': [option(0)],
  'code 65001': [option(65_001, 'cafe')],
  'code 65535': [option(65_535, '00')],
  'nsid twice': [option(3), option(3)],
  'cookie twice': [option(10, clientCookie), option(10, '1112131415161718')],
  'thirty options': Array.from({ length: 30 }, (_, i) => option(65_001 + i, '00')),
  everything: [option(3), option(8, '00011800c63364'), option(9), option(12, new Uint8Array(64))],
};

/** Every question, no two alike. */
export function comparedQuestions(): readonly ComparedQuestion[] {
  const all = [...grid(), ...otherZones(), ...sizes(), ...flags(), ...options()];
  all.push(...atLimits(), ...odd());
  return [...new Map(all.map((one) => [Buffer.from(one.bytes).toString('hex'), one])).values()];
}

function ordinary(spec: MessageSpec, detail = ''): ComparedQuestion {
  const what = `${spec.name} type ${spec.type}${detail === '' ? '' : `, ${detail}`}`;
  return { what, bytes: query(spec), isOdd: false };
}

function oddOne(spec: MessageSpec, detail: string): ComparedQuestion {
  return { ...ordinary(spec, detail), isOdd: true };
}

const below = (zone: string, name: string): string => (name === '' ? zone : `${name}.${zone}`);

/** Every name with every type, the shapes in turn. */
function* grid(): Generator<ComparedQuestion> {
  let turn = 0;
  for (const name of differentialNames) {
    for (const type of types) {
      const shape = shapes[turn++ % shapes.length] as Shape;
      yield ordinary({ name: below('signed.test', name), type, ...shape });
    }
  }
}

function* otherZones(): Generator<ComparedQuestion> {
  let turn = 0;
  for (const zone of ['nsec.test', 'plain.test']) {
    for (const name of differentialNames) {
      for (const type of [typeA, 28, typeTxt, 65]) {
        const shape = shapes[turn++ % shapes.length] as Shape;
        yield ordinary({ name: below(zone, name), type, ...shape });
      }
    }
  }
  for (const name of ['.', 'test', 'com', 'www.elsewhere.example', 'localhost', 'version.server']) {
    for (const type of [typeA, 2, 6, typeTxt]) yield ordinary({ name, type });
  }
  for (const klass of [0, 3, 4, 254, 255]) {
    for (const name of ['www.signed.test', 'version.server', 'id.server']) {
      yield oddOne({ name, type: typeTxt, class: klass }, `class ${klass}`);
    }
  }
  for (const type of [251, 252]) {
    for (const edns of [undefined, { size: 1232 }]) {
      const spec = { name: 'plain.test', type, ...(edns === undefined ? {} : { edns }) };
      yield oddOne(spec, 'a zone transfer');
    }
  }
}

/** Answers that fit and answers that are truncated, for each EDNS buffer size that the query announces. */
function* sizes(): Generator<ComparedQuestion> {
  const told = [0, 1, 511, 512, 513, 600, 900, 1220, 1231, 1232, 1233, 1400, 2048, 4095, 4096];
  for (const size of [...told, 4097, 8192, 16_384, 65_535]) {
    for (const name of [
      'www',
      'txt600',
      'txt1200',
      'txt2k',
      'txt5k',
      'txt58k',
      'many',
      'nothing',
    ]) {
      for (const dnssecOk of [false, true]) {
        const edns = { size, dnssecOk };
        const type = name.startsWith('txt') ? typeTxt : typeA;
        const spec = { name: below('signed.test', name), type, edns };
        // Knot takes less than 512 over TCP for an error, and closes.
        yield { ...ordinary(spec, JSON.stringify(edns)), isOdd: size < 512 };
      }
    }
  }
}

/** All flags of the header that a query may have and some it should not, and the letters' case. */
function* flags(): Generator<ComparedQuestion> {
  const all = Object.values(flag);
  for (let set = 0; set < 1 << all.length; set++) {
    const value = all.reduce((sum, bit, i) => sum | ((set & (1 << i)) === 0 ? 0 : bit), 0);
    const detail = `flags ${value.toString(16).padStart(4, '0')}`;
    yield ordinary({ name: 'www.signed.test', type: typeA, flags: value }, detail);
  }
  for (const rcode of [1, 3, 15]) {
    const detail = `rcode ${rcode} in the query`;
    yield ordinary({ name: 'www.signed.test', type: typeA, flags: flagsRd | rcode }, detail);
  }
  for (const name of [
    'WWW.SIGNED.TEST',
    'wWw.SiGnEd.TeSt',
    'NoThInG.sIgNeD.tEsT',
    'ALIAS0.signed.Test',
  ]) {
    for (const type of [typeA, typeTxt, 255]) {
      for (const edns of [undefined, { size: 1232, dnssecOk: true }]) {
        yield ordinary({ name, type, ...(edns === undefined ? {} : { edns }) });
      }
    }
  }
}

function* options(): Generator<ComparedQuestion> {
  const names = ['www.signed.test', 'signed.test', 'nothing.signed.test', 'www.elsewhere.example'];
  for (const [what, set] of Object.entries(optionSets)) {
    for (const name of names) {
      for (const dnssecOk of [false, true]) {
        yield ordinary({ name, type: 6, edns: { size: 1232, dnssecOk, options: set } }, what);
      }
    }
  }
  const ednsOf: readonly EdnsSpec[] = [
    { size: 1232, version: 1 },
    { size: 1232, version: 1, dnssecOk: true, options: [option(3)] },
    { size: 1232, version: 255 },
    { size: 1232, zeroFlags: 1 },
    { size: 1232, zeroFlags: 0x7fff },
    { size: 1232, zeroFlags: 0x4000, dnssecOk: true },
  ];
  for (const edns of ednsOf) {
    for (const name of names) yield ordinary({ name, type: typeA, edns }, JSON.stringify(edns));
  }
}

/** The longest queries that are taken, and those with one octet more. */
function* atLimits(): Generator<ComparedQuestion> {
  for (const most of [udpQueryBytesMax, tcpQueryBytesMax]) {
    for (const octets of [most, most + 1]) {
      for (const name of ['www.signed.test', 'nothing.signed.test']) {
        const padded = (padding: number): MessageSpec => {
          const edns = { size: 1232, options: [option(12, new Uint8Array(padding))] };
          return { name, type: 6, edns };
        };
        const spec = padded(octets - query(padded(0)).length);
        assert.equal(query(spec).length, octets);
        yield ordinary(spec, `${octets} octets`);
      }
    }
  }
}

function* odd(): Generator<ComparedQuestion> {
  for (const [what, bytes] of Object.entries(oddMessages)) yield { what, bytes, isOdd: true };
}
