// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The alphabet of patterns. A name is matched as a string of small codes: letters without case,
 * digits, hyphen and underscore, and the dot between labels. Any other octet can match no pattern
 * but a bare "*" of rules.dns, so it has one code of its own.
 */

export const codeDot = 1;
export const codeHyphen = 2;
export const codeUnderscore = 3;
export const codeDigits = 4;
export const codeLetters = 14;
/** One more than the last code of the alphabet. */
export const codeEnd = 40;
/** An octet outside the alphabet. Its bit is in no other code, so that OR over a name shows it. */
export const codeOther = 64;

/** Octet of a label to code. A 0x2e octet inside a label is no dot: it is `codeOther`. */
export const codeOfOctet: Uint8Array = makeCodes();
/** Octet to octet, A-Z to a-z. Case of other octets is not folded (RFC 4343). */
export const lowerOfOctet: Uint8Array = makeLower();
/** Both at once, for the loop over a query's name: code << 8 | lower-case octet. */
export const foldOfOctet: Uint16Array = Uint16Array.from(
  lowerOfOctet,
  (lower, octet) => (codeOfOctet[octet]! << 8) | lower,
);

function makeCodes(): Uint8Array {
  const codes = new Uint8Array(256).fill(codeOther);
  codes[0x2d] = codeHyphen;
  codes[0x5f] = codeUnderscore;
  for (let digit = 0; digit < 10; digit++) codes[0x30 + digit] = codeDigits + digit;
  for (let letter = 0; letter < 26; letter++) {
    codes[0x41 + letter] = codeLetters + letter;
    codes[0x61 + letter] = codeLetters + letter;
  }
  return codes;
}

function makeLower(): Uint8Array {
  const lower = new Uint8Array(256);
  for (let octet = 0; octet < 256; octet++) {
    lower[octet] = octet >= 0x41 && octet <= 0x5a ? octet + 0x20 : octet;
  }
  return lower;
}
