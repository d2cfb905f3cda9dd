// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Messages that no resolver library sends, by what is wrong or unusual about them; id 0. */

import { longestLabels } from './differential-zones.ts';
import {
  flagsRd,
  message,
  optRecord,
  query,
  question,
  record,
  wireName,
  words,
} from './dns-message.ts';

const typeA = 1;
const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'));
const www = wireName('www.signed.test');
const wwwA = question(www, typeA);
const opt = optRecord({ size: 1232 });
const later = optRecord({ size: 1232, version: 1 });

const tsig = record(wireName('key.test'), 250, tsigData(), 255);

export const oddMessages: Readonly<Record<string, Uint8Array>> = {
  'no question': message(flagsRd, [0, 0, 0, 0], []),
  'no question, with EDNS': message(flagsRd, [0, 0, 0, 1], [opt]),
  'no question, with a cookie': message(
    flagsRd,
    [0, 0, 0, 1],
    [optRecord({ size: 1232, options: [{ code: 10, data: hex('0102030405060708') }] })],
  ),
  'two questions': message(flagsRd, [2, 0, 0, 0], [wwwA, question(www, 28)]),
  'the same question twice': message(flagsRd, [2, 0, 0, 0], [wwwA, wwwA]),
  'a question that is not there': message(flagsRd, [1, 0, 0, 0], []),
  'a question that is cut': message(flagsRd, [1, 0, 0, 0], [wwwA.subarray(0, 9)]),
  'a question without its class': message(flagsRd, [1, 0, 0, 0], [wwwA.subarray(0, -2)]),
  'a name that points to itself': message(flagsRd, [1, 0, 0, 0], [hex('c00c00010001')]),
  'a name that points into the header': message(flagsRd, [1, 0, 0, 0], [hex('c00400010001')]),
  'a label of type 01': message(flagsRd, [1, 0, 0, 0], [hex('41610000010001')]),
  'a label of type 10': message(flagsRd, [1, 0, 0, 0], [hex('81610000010001')]),
  'a name of 256 octets': message(
    flagsRd,
    [1, 0, 0, 0],
    [question(wireName(`x${longestLabels}.signed.test`), typeA)],
  ),
  'one octet behind the message': message(flagsRd, [1, 0, 0, 0], [wwwA, hex('00')]),
  'ten octets behind the message': message(flagsRd, [1, 0, 0, 0], [wwwA, new Uint8Array(10)]),
  'octets behind the OPT': message(flagsRd, [1, 0, 0, 1], [wwwA, opt, hex('deadbeef')]),
  'an OPT that is not counted': message(flagsRd, [1, 0, 0, 0], [wwwA, opt]),
  'an OPT that is counted and not there': message(flagsRd, [1, 0, 0, 1], [wwwA]),
  'an OPT that is cut': message(flagsRd, [1, 0, 0, 1], [wwwA, opt.subarray(0, 8)]),
  'two OPT records': message(flagsRd, [1, 0, 0, 2], [wwwA, opt, opt]),
  'an OPT with an owner': message(
    flagsRd,
    [1, 0, 0, 1],
    [wwwA, record(www, 41, new Uint8Array(0), 1232)],
  ),
  'an OPT whose length is too great': query({
    ...{ name: 'www.signed.test', type: typeA },
    edns: { size: 1232, options: [{ code: 3, data: hex('') }], lengthError: 4 },
  }),
  'an OPT whose length is too small': query({
    ...{ name: 'www.signed.test', type: typeA },
    edns: { size: 1232, options: [{ code: 65_001, data: hex('cafe') }], lengthError: -2 },
  }),
  'an OPT whose option is cut': message(
    flagsRd,
    [1, 0, 0, 1],
    [wwwA, record(hex('00'), 41, hex('000a000801'), 1232)],
  ),
  'an OPT in the answer section': message(flagsRd, [1, 1, 0, 0], [wwwA, opt]),
  'an answer': message(flagsRd, [1, 1, 0, 0], [wwwA, record(www, typeA, hex('c0000202'))]),
  'an authority': message(flagsRd, [1, 0, 1, 0], [wwwA, record(www, typeA, hex('c0000202'))]),
  'an additional A': message(flagsRd, [1, 0, 0, 1], [wwwA, record(www, typeA, hex('c0000202'))]),
  'a SIG(0)': message(flagsRd, [1, 0, 0, 1], [wwwA, record(hex('00'), 24, new Uint8Array(30))]),
  'a TSIG of an unknown key': message(flagsRd, [1, 0, 0, 1], [wwwA, tsig]),
  'a TSIG that is cut': message(
    flagsRd,
    [1, 0, 0, 1],
    [wwwA, record(wireName('key.test'), 250, hex('0161'), 255)],
  ),
  'nothing but a header': message(flagsRd, [1, 0, 0, 0], []).subarray(0, 12),
  '11 octets': message(flagsRd, [1, 0, 0, 0], [wwwA]).subarray(0, 11),
  'an id alone': hex('0000'),
  'a reply': message(0x8180, [1, 0, 0, 0], [wwwA]),
  ...Object.fromEntries(
    [1, 2, 3, 4, 5, 6, 7, 15].map((opcode) => [
      `opcode ${opcode}`,
      message(flagsRd | (opcode << 11), [1, 0, 0, 0], [wwwA]),
    ]),
  ),
  'opcode 7 of EDNS version 1': message(0x3800, [1, 0, 0, 1], [wwwA, later]),
  'opcode UPDATE of EDNS version 1': message(0x2800, [1, 0, 0, 1], [wwwA, later]),
  'class CH of EDNS version 1': message(
    flagsRd,
    [1, 0, 0, 1],
    [question(wireName('version.server'), 16, 3), later],
  ),
  'AXFR of EDNS version 1': message(
    flagsRd,
    [1, 0, 0, 1],
    [question(wireName('plain.test'), 252), later],
  ),
  'two questions of EDNS version 1': message(flagsRd, [2, 0, 0, 1], [wwwA, wwwA, later]),
  'no question, of EDNS version 1': message(flagsRd, [0, 0, 0, 1], [later]),
  'two OPT records of EDNS version 1': message(flagsRd, [1, 0, 0, 2], [wwwA, later, later]),
  'an answer, of EDNS version 1': message(
    flagsRd,
    [1, 1, 0, 1],
    [wwwA, record(www, typeA, hex('c0000202')), later],
  ),
  'a TSIG before the OPT': message(flagsRd, [1, 0, 0, 2], [wwwA, tsig, opt]),
  'a TSIG behind the OPT': message(flagsRd, [1, 0, 0, 2], [wwwA, opt, tsig]),
  'a TSIG whose owner is compressed': message(
    flagsRd,
    [1, 0, 0, 1],
    [
      wwwA,
      hex('036b6579'),
      Uint8Array.of(0xc0, 12 + 4),
      tsig.subarray(wireName('key.test').length),
    ],
  ),
  'two TSIG records': message(flagsRd, [1, 0, 0, 2], [wwwA, tsig, tsig]),
  'an OPT whose owner points to the root': message(
    flagsRd,
    [1, 0, 0, 1],
    [wwwA, Uint8Array.of(0xc0, 12 + www.length - 1), opt.subarray(1)],
  ),
  'an OPT whose extended RCODE is set': message(flagsRd, [1, 0, 0, 1], [wwwA, opt.with(5, 1)]),
  'opcode NOTIFY of a SOA': message(0x2400, [1, 0, 0, 0], [question(wireName('signed.test'), 6)]),
  'opcode UPDATE of a zone': message(0x2800, [1, 0, 0, 0], [question(wireName('signed.test'), 6)]),
};

function tsigData(): Uint8Array {
  const mac = new Uint8Array(32);
  const parts = [wireName('hmac-sha256'), words(0, 0x6b0b, 0x4cfd, 300, mac.length), mac];
  return Uint8Array.from([...parts.flatMap((part) => [...part]), ...words(0, 0, 0)]);
}
