// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Puts protobufjs's code beside the compiled files: tsc compiles only .ts and leaves .js and .d.ts where
// they are.

import { copyFileSync, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const source = new URL('../src/gen/', import.meta.url);
const target = new URL('../dist/gen/', import.meta.url);

mkdirSync(fileURLToPath(target), { recursive: true });
for (const file of ['tandem.js', 'tandem.d.ts']) {
  copyFileSync(fileURLToPath(new URL(file, source)), fileURLToPath(new URL(file, target)));
}
