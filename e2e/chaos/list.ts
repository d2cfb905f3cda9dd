// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** ./run chaos --list: what is done to Tandem, and what would have to be but cannot. */

import { parts } from './catalogue.ts';

export function listText(): string {
  const lines = ['Parts:', ...parts.map(({ name, what }) => `  ${name.padEnd(12)} ${what}`)];
  return `${lines.join('\n')}\n`;
}
