// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The matcher that a snapshot carries, so that a process that starts need not compile for a second. It
 * is used only if it was made of these very patterns by this version's compiler; else the reader
 * compiles.
 *
 *   offset  size  content
 *        0     4  compiledVersion, little-endian
 *        4    32  SHA-256 of the version, the patterns and the image
 *       36     -  the image (core's matcher-image.ts)
 */

import { createHash } from 'node:crypto';
import type { Matcher } from '@tandem/core/dns/matcher';
import { decodeMatcher, encodeMatcher } from '@tandem/core/dns/matcher-image';
import type { PolicySnapshot } from '@tandem/proto/gen/messages';

type Patterns = PolicySnapshot['patterns'];

/** To be raised when what a pattern means changes: a matcher of before would be sound, and wrong. */
const compiledVersion = 1;
const versionBytes = 4;
const digestBytes = 32;
const headBytes: number = versionBytes + digestBytes;

export function encodeCompiled(patterns: Patterns, matcher: Matcher): Uint8Array {
  const image = encodeMatcher(matcher);
  const bytes = Buffer.alloc(headBytes + image.length);
  bytes.writeUInt32LE(compiledVersion, 0);
  digestOf(patterns, image).copy(bytes, versionBytes);
  bytes.set(image, headBytes);
  return bytes;
}

/** Null: of other patterns, of another version, damaged, or not there. */
export function decodeCompiled(patterns: Patterns, compiled: Uint8Array): Matcher | null {
  if (compiled.length <= headBytes) return null;
  const bytes = Buffer.from(compiled.buffer, compiled.byteOffset, compiled.length);
  if (bytes.readUInt32LE(0) !== compiledVersion) return null;
  // No Buffer: its slice() shares memory, which decoding must not.
  const image = new Uint8Array(
    bytes.buffer,
    bytes.byteOffset + headBytes,
    bytes.length - headBytes,
  );
  if (!digestOf(patterns, image).equals(bytes.subarray(versionBytes, headBytes))) return null;
  const decoded = decodeMatcher(image);
  return decoded.ok ? decoded.value : null;
}

function digestOf(patterns: Patterns, image: Uint8Array): Buffer {
  // Canonical text has no line breaks.
  const text = patterns.map(({ text: name, context }) => `${context} ${name}\n`).join('');
  return createHash('sha256')
    .update(`${compiledVersion} ${patterns.length}\n${text}`)
    .update(image)
    .digest();
}
