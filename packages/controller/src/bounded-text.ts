// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Texts of objects in messages: of a bounded number of octets, and without characters that do harm where they are shown. */

import { escapeUnsafe } from '@tandem/runtime/log-escape';

const ellipsis = '…';

/** At most so many octets of UTF-8, cut between characters. */
export function boundedText(text: string, bytesMax: number): string {
  // A character is an octet at least.
  const safe = escapeUnsafe(text.slice(0, bytesMax + 1));
  if (Buffer.byteLength(safe) <= bytesMax && text.length <= bytesMax) return safe;
  const room = Math.max(0, bytesMax - Buffer.byteLength(ellipsis));
  const bytes = Buffer.from(safe).subarray(0, room);
  // The rest of a cut character is no character.
  return `${new TextDecoder().decode(bytes, { stream: true })}${ellipsis}`;
}
