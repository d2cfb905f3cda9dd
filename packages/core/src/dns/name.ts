// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Names in wire form (RFC 1035 section 3.1): length octet and octets of each label, then the root's
 * zero. Inside Tandem a name is lower-case and absolute; the text form exists only at edges. The text
 * is safe for terminals, logs and HTML: whatever is not a letter, a digit, hyphen, underscore, star or slash is escaped.
 */

import { labelBytesMax, nameBytesMax } from '../limits.ts';
import { lowerOfOctet } from './alphabet.ts';

/** Text of `nameToText` for octets that are no name. */
export const invalidNameText = '<invalid name>';

const backslash = 0x5c;
const dot = 0x2e;

/**
 * The octets of the uncompressed name at `offset`, root included; 0 if there is none before `end`: cut
 * short, a compression pointer, a reserved label type, or over 255 octets.
 */
export function nameLengthAt(bytes: Uint8Array, offset: number, end: number): number {
  const limit = Math.min(end, offset + nameBytesMax);
  let at = offset;
  while (at < limit) {
    const length = bytes[at]!;
    if (length === 0) return at + 1 - offset;
    if (length > labelBytesMax) return 0;
    at += length + 1;
  }
  return 0;
}

/**
 * Presentation form to wire form, lower-case, absolute with or without the final dot. After a backslash
 * three digits are an octet, any other character is itself (RFC 1035 section 5.1). Null: empty, an
 * empty label, a label over 63 or a name over 255 octets, a broken escape, not printable ASCII.
 */
export function nameFromText(text: string): Uint8Array | null {
  if (text === '.') return new Uint8Array(1);
  if (text.length === 0 || text.length > nameBytesMax * 4) return null;
  const wire = new Uint8Array(nameBytesMax);
  let labelAt = 0;
  let at = 1;
  let index = 0;
  while (index < text.length) {
    let octet = text.charCodeAt(index++);
    if (octet === dot) {
      const length = at - labelAt - 1;
      if (length === 0 || at >= nameBytesMax) return null;
      wire[labelAt] = length;
      labelAt = at++;
      continue;
    }
    if (octet === backslash) {
      const width = escapeWidth(text, index);
      octet = width === 3 ? Number(text.slice(index, index + 3)) : text.charCodeAt(index);
      if (width === 0 || octet > 255) return null;
      index += width;
    } else if (octet > 0x7e || octet < 0x21) {
      return null;
    }
    if (at - labelAt > labelBytesMax || at >= nameBytesMax) return null;
    wire[at++] = lowerOfOctet[octet]!;
  }
  const length = at - labelAt - 1;
  // A final dot has opened the label that is the root.
  if (length === 0) return wire.slice(0, labelAt + 1);
  if (at >= nameBytesMax) return null;
  wire[labelAt] = length;
  return wire.slice(0, at + 1);
}

/** Characters of the escape after a backslash: 3 digits, 1 printable character, or 0 if broken. */
function escapeWidth(text: string, index: number): number {
  const first = text.charCodeAt(index);
  if (first >= 0x30 && first <= 0x39) return /^[0-9]{3}/.test(text.slice(index, index + 3)) ? 3 : 0;
  return first >= 0x21 && first <= 0x7e ? 1 : 0;
}

/**
 * The wire name at `offset` in presentation form with its final dot, every unusual octet escaped.
 * `invalidNameText` if there is no name; names are printed in diagnostics of bad input as well.
 */
export function nameToText(wire: Uint8Array, offset = 0): string {
  const length = nameLengthAt(wire, offset, wire.length);
  if (length === 0) return invalidNameText;
  if (length === 1) return '.';
  let text = '';
  let at = offset;
  for (let labelLength = wire[at]!; labelLength !== 0; labelLength = wire[at]!) {
    const labelEnd = at + 1 + labelLength;
    for (at++; at < labelEnd; at++) text += octetToText(wire[at]!);
    text += '.';
  }
  return text;
}

function octetToText(octet: number): string {
  const character = String.fromCharCode(octet);
  if (/[-_*/0-9A-Za-z]/.test(character)) return character;
  if (octet === dot || octet === backslash) return `\\${character}`;
  return `\\${String(octet).padStart(3, '0')}`;
}
