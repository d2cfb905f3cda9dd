// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// Reads a pinned ring until it is killed: writes position and number of every record to a file, then
// commits them. Says what is not as it was emitted, and ends.

import { openSync, writeSync } from 'node:fs';
import { HeldRing } from '../../src/held-ring.ts';
import { BpfMap } from '../../src/map.ts';
import { readU32 } from '../fixture.ts';

const recordBytes = 24;
const [pin = '', output = ''] = process.argv.slice(2);
const fd = openSync(output, 'a');
let next = 0;

const ring = new HeldRing(
  BpfMap.openPinned(pin),
  (bytes, lengths, positions, count) => {
    const lines = new Float64Array(2 * count);
    for (let i = 0; i < count; i++) {
      const number = readU32(bytes, 4 * i);
      const check = readU32(bytes, 4 * i + 1);
      if (lengths[i] !== 12 || check !== ~number >>> 0) {
        writeSync(2, `no record of ours at ${positions[i]}\n`);
        process.exit(1);
      }
      lines[2 * i] = positions[i]!;
      lines[2 * i + 1] = number;
      next = positions[i]! + recordBytes;
    }
    writeSync(fd, lines);
  },
  { batchRecords: 64 },
);
writeSync(1, 'ready\n');
for (;;) {
  if (ring.read() > 0) ring.commit(Math.min(next, ring.stats().position));
}
