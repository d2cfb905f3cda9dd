// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type Arbitrary,
  array,
  assert as check,
  constant,
  integer,
  oneof,
  option,
  property,
  record,
  string,
  uint8Array,
} from 'fast-check';
import { decodeMessage } from './decode.ts';
import { encodeMessage } from './encode.ts';
import { type AnyKind, type AttributeTable, isTable, type MessageFormat } from './format.ts';
import { addressFormat, decodeAddress } from './interface-address.ts';
import { decodeLink, linkFormat } from './link.ts';
import {
  decodeAck,
  decodeDone,
  encodeEnvelope,
  type NetlinkMessage,
  visitMessages,
} from './message.ts';
import { decodeForwarding, decodeNeighbor, neighborFormat } from './neighbor.ts';
import { decodeNetnsId, netnsIdFormat } from './netns-id.ts';
import { decodeRoute, routeFormat } from './route.ts';
import { decodeRule, ruleFormat } from './rule.ts';

const seed = Number(process.env['TANDEM_FUZZ_SEED'] ?? 20_260_101);
const runs = { seed, numRuns: 2000 };

type Fields = Readonly<Record<string, unknown>>;
type AnyFormat = MessageFormat<Readonly<Record<string, number>>, Fields>;

const formats = {
  link: linkFormat,
  address: addressFormat,
  route: routeFormat,
  rule: ruleFormat,
  neighbor: neighborFormat,
  netnsId: netnsIdFormat,
} as unknown as Readonly<Record<string, AnyFormat>>;

const decoders: Readonly<Record<string, (payload: Uint8Array) => unknown>> = {
  link: decodeLink,
  address: decodeAddress,
  route: decodeRoute,
  rule: decodeRule,
  neighbor: decodeNeighbor,
  forwarding: decodeForwarding,
  netnsId: decodeNetnsId,
};

const scalars: Readonly<Record<string, Arbitrary<number>>> = {
  u8: integer({ min: 0, max: 0xff }),
  u16: integer({ min: 0, max: 0xffff }),
  be16: integer({ min: 0, max: 0xffff }),
  u32: integer({ min: 0, max: 0xffff_ffff }),
  s32: integer({ min: -0x8000_0000, max: 0x7fff_ffff }),
};

function valueOf(kind: AnyKind): Arbitrary<unknown> {
  if (kind === 'flag') return constant(true);
  if (kind === 'bytes') return uint8Array({ maxLength: 40 });
  if (kind === 'text') return string({ maxLength: 15 }).map((text) => text.replaceAll('\0', ''));
  if (typeof kind === 'string') return scalars[kind] as Arbitrary<number>;
  return isTable(kind) ? attributesOf(kind) : structOf(kind.members);
}

function attributesOf(table: AttributeTable<Fields>): Arbitrary<Fields> {
  const rows = [...table.byName.values()].map(({ name, kind }) => [name, valueOf(kind)]);
  return record(Object.fromEntries(rows) as Record<string, Arbitrary<unknown>>, {
    requiredKeys: [],
  });
}

function structOf(
  members: Readonly<Record<string, readonly [kind: string, offset: number]>>,
): Arbitrary<Fields> {
  const rows = Object.entries(members).map(([name, [kind]]) => [name, scalars[kind]]);
  return record(Object.fromEntries(rows) as Record<string, Arbitrary<unknown>>);
}

/** Any bytes, and right messages with some bytes changed. */
function damagedOf(format: AnyFormat): Arbitrary<Uint8Array> {
  const right = record({
    header: structOf(format.header.members),
    attributes: attributesOf(format.attributes),
    changes: array(
      record({ at: integer({ min: 0, max: 200 }), byte: scalars['u8'] as Arbitrary<number> }),
      {
        maxLength: 4,
      },
    ),
    cut: option(integer({ min: 0, max: 200 })),
  }).map(({ header, attributes, changes, cut }) => {
    const bytes = encodeMessage(format, header as Readonly<Record<string, number>>, attributes);
    for (const { at, byte } of changes) if (at < bytes.length) bytes[at] = byte;
    return cut === null ? bytes : bytes.subarray(0, cut);
  });
  return oneof(right, uint8Array({ maxLength: 200 }));
}

describe(`messages (seed ${seed})`, () => {
  for (const [name, format] of Object.entries(formats)) {
    test(`${name}: what is encoded is decoded`, () => {
      check(
        property(
          structOf(format.header.members),
          attributesOf(format.attributes),
          (header, attributes) => {
            const bytes = encodeMessage(
              format,
              header as Readonly<Record<string, number>>,
              attributes,
            );
            assert.equal(bytes.length % 4, 0);
            const decoded = decodeMessage(format, bytes);
            assert.ok(decoded.ok, decoded.ok ? '' : decoded.error);
            assert.deepEqual({ ...decoded.value.header }, { ...header });
            assert.deepEqual(normal(decoded.value.attributes), normal(attributes));
          },
        ),
        runs,
      );
    });

    test(`${name}: wrong lengths and any bytes are values`, () => {
      check(
        property(damagedOf(format), (bytes) => {
          const decoded = decodeMessage(format, bytes);
          assert.equal(typeof decoded.ok, 'boolean');
          for (const decode of Object.values(decoders)) decode(bytes);
        }),
        runs,
      );
    });
  }

  test('every attribute is cut at every length: a value, and never what is not there', () => {
    const whole = encodeMessage(
      linkFormat,
      { ifindex: 7 },
      { name: 'eth0', info: { kind: 'veth' }, master: 3 },
    );
    for (let length = 0; length < whole.length; length++) {
      const decoded = decodeMessage(linkFormat, whole.subarray(0, length));
      if (decoded.ok) assert.ok((decoded.value.attributes.master ?? 3) === 3);
    }
    const zero = whole.slice();
    zero[16] = 0; // the first attribute is 0 bytes long: it would be read for ever
    const refused = decodeMessage(linkFormat, zero);
    assert.match(refused.ok ? '' : refused.error, /attribute 3 of 0 bytes/);
  });

  test('envelopes: messages in a row come out as they went in', () => {
    const message = record({
      type: scalars['u16'] as Arbitrary<number>,
      flags: scalars['u16'] as Arbitrary<number>,
      sequence: scalars['u32'] as Arbitrary<number>,
      payload: uint8Array({ maxLength: 50 }),
    });
    check(
      property(array(message, { maxLength: 6 }), (messages) => {
        const bytes = Buffer.concat(messages.map((each) => encodeEnvelope(each)));
        const seen: NetlinkMessage[] = [];
        assert.ok(visitMessages(bytes, (each) => void seen.push(each)).ok);
        assert.deepEqual(
          seen.map((each) => ({ ...each, payload: [...each.payload] })),
          messages.map((each) => ({ ...each, payload: [...each.payload] })),
        );
      }),
      runs,
    );
  });

  test('envelopes and acknowledgements of any bytes are values', () => {
    check(
      property(
        uint8Array({ maxLength: 120 }),
        scalars['u16'] as Arbitrary<number>,
        (bytes, flags) => {
          let read = 0;
          visitMessages(bytes, ({ payload }) => {
            read += 16 + payload.length;
          });
          assert.ok(read <= bytes.length);
          for (const decode of [decodeAck, decodeDone]) {
            const ack = decode({ type: 2, flags, sequence: 0, payload: bytes });
            if (ack.ok) assert.ok(ack.value.errno >= 0);
          }
        },
      ),
      runs,
    );
  });

  test('a message that is too long is refused', () => {
    const multipath = new Uint8Array(40_000);
    assert.throws(() => encodeMessage(routeFormat, {}, { multipath }), RangeError);
  });
});

/** Without what tells typed arrays of one content apart. */
function normal(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, each: unknown) => (each instanceof Uint8Array ? [...each] : each)),
  );
}
