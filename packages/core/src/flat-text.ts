// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The same text in one piece, for texts that are kept by the hundred thousand: V8 keeps one that was put together as a tree of its
 * parts, 32 bytes a node, even once it has the whole.
 */
export function flatText(text: string): string {
  if (text.length > charactersMax) return text;
  const codes = new Array<number>(text.length);
  for (let i = 0; i < text.length; i++) codes[i] = text.charCodeAt(i);
  return String.fromCharCode.apply(null, codes);
}

/** Names of Kubernetes are at most 253 characters. */
const charactersMax = 1024;
