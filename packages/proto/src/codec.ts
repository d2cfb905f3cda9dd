// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// The face that every generated message shows to the rest of the product: encode and decode, typed for
// what is really there. protobufjs types a decoded message's nested fields as optional, though its decoder
// fills defaults in (on the prototype: `JSON.stringify` and spread do not see fields that hold the default).

import type $protobuf from 'protobufjs/minimal.js';

/** What the decoder makes of a value that was sent: scalars and bytes as they are, messages decoded. */
type DecodedValue<V> = V extends Uint8Array | number | boolean | string ? V : Decoded<V>;

/** A field as the decoder returns it: scalars, bytes and lists are always present. */
type DecodedField<F> = F extends Uint8Array | number | boolean
  ? F
  : F extends string
    ? string extends F
      ? F
      : F | undefined
    : F extends readonly (infer Element)[]
      ? DecodedValue<Element>[]
      : Decoded<F> | null;

/**
 * A decoded message. A nested message that was not sent is null, the name of an unset oneof undefined,
 * any other absent field its default. `bytes` fields are views into the decoded buffer: copy what is kept.
 */
export type Decoded<Properties> = {
  readonly [Name in keyof Properties as Name extends '$unknowns' ? never : Name]-?: DecodedField<
    NonNullable<Properties[Name]>
  >;
};

/** Encodes and decodes one message type. */
export interface Codec<Init, Message> {
  /** Full name: "tandem.v1.SyncAck". */
  readonly typeName: string;
  /** Encodes; fields left out take their default. */
  encode(message: Init): Uint8Array;
  /** Decodes. Throws on malformed input: at a trust boundary use `decodeResult`. */
  decode(bytes: Uint8Array): Message;
}

/** What protobufjs generates for a message, as far as `messageCodec` needs it. */
interface GeneratedType<Init> {
  encode(message: Init): $protobuf.Writer;
  decode(bytes: Uint8Array): object;
}

/** Wraps a generated type. For the generated file `messages.ts`. */
export function messageCodec<Init>(
  typeName: string,
  generated: GeneratedType<Init>,
): Codec<Init, Decoded<Init>> {
  return {
    typeName,
    encode: (message: Init): Uint8Array => generated.encode(message).finish(),
    decode: (bytes: Uint8Array): Decoded<Init> => generated.decode(bytes) as Decoded<Init>,
  };
}

/** Outcome of decoding untrusted bytes. */
export type DecodeResult<Message> =
  | { readonly ok: true; readonly value: Message }
  | { readonly ok: false; readonly error: string };

/** Decodes bytes that may be anything; malformed input is a value. */
export function decodeResult<Init, Message>(
  codec: Codec<Init, Message>,
  bytes: Uint8Array,
): DecodeResult<Message> {
  try {
    return { ok: true, value: codec.decode(bytes) };
  } catch (error) {
    // protobufjs reports malformed input only by throwing.
    const message = error instanceof Error ? error.message : String(error);
    return { ok: false, error: `not a ${codec.typeName}: ${message}` };
  }
}
