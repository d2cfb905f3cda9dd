// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which address families the node has: Tandem runs with what there is. */

import { familyNotes, ipv6State, ipv6Texts, loopbackFix } from '@tandem/datapath/address-families';
import { type Check, fail, info, pass } from './check.ts';

export const checkFamilies: Check = () => {
  const state = ipv6State();
  const check = 'address-families';
  if (state === 'no-loopback') return [fail(check, ipv6Texts[state], loopbackFix)];
  const notes = familyNotes();
  return notes.length === 0 ? [pass(check, ipv6Texts.on)] : notes.map((note) => info(check, note));
};

/** Whether rules of the family can be there at all. */
export function hasRules(family: 'IPv4' | 'IPv6'): boolean {
  return family === 'IPv4' || ipv6State() === 'on';
}
