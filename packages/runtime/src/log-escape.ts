// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Makes text safe for a terminal, a log line and a log viewer (threat T22): pod names, file names and error
// messages may hold escape sequences, line breaks or characters that turn the direction of writing.
// DNS names arrive here already escaped by RFC 1035 rules.

/** Longest text of one message or field, characters. */
export const logTextCharsMax = 8192;

/** C0 and C1 controls, DEL, zero-width and bidirectional controls, line separators, BOM, lone surrogates. */
const unsafe: RegExp =
  // oxlint-disable-next-line no-control-regex -- control characters are what it is for
  /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\p{Surrogate}/gu;

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/**
 * Replaces every unsafe character by \uXXXX and cuts what is longer than logTextCharsMax. The form is that
 * of JSON: applied to a JSON text it changes no value, because JSON has these only inside of strings.
 */
export function escapeLogText(text: string): string {
  const safe = text.slice(0, logTextCharsMax).replace(unsafe, escaped);
  return text.length > logTextCharsMax ? `${safe}... (${text.length} characters)` : safe;
}

/** The same without a limit of length, for text that was bounded before. */
export function escapeUnsafe(text: string): string {
  return text.replace(unsafe, escaped);
}
