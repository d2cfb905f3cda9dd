// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Costs of the BPF programs in the last saved run. They are read from the run's page: the JSON of older runs has no
 * packets, and none has the name of the CPU.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PacketCost } from './packet-cost.ts';

export interface LastPackets {
  /** Name of its page, without the ending. */
  readonly page: string;
  /** As the page names the machine; empty: it does not. */
  readonly cpu: string;
  readonly costs: readonly PacketCost[];
}

/** Reads the newest run before that date (YYYY-MM-DD) that measured packets; null: there is none in the directory. */
export function lastPackets(directory: string, date: string): LastPackets | null {
  const pages = readdirSync(directory).filter((file) => /^bench-\d{4}-\d\d-\d\d\.md$/.test(file));
  for (const file of pages.toSorted().toReversed()) {
    const page = file.slice(0, -'.md'.length);
    if (page >= `bench-${date}`) continue;
    const text = readFileSync(join(directory, file), 'utf8');
    const costs = packetRows(text);
    if (costs.length === 0) continue;
    return { page, cpu: /^- commit .*, (\d+ x .+)$/m.exec(text)?.[1] ?? '', costs };
  }
  return null;
}

/** Rows of the page's table of packets: subject, least and median ns, whatever columns follow. */
function packetRows(text: string): PacketCost[] {
  const lines = text.split('\n');
  const head = lines.findIndex((line) => line.startsWith('| program: packet '));
  if (head === -1) return [];
  const costs: PacketCost[] = [];
  for (const line of lines.slice(head + 2)) {
    const row = /^\| (.*?) +\| ([\d.]+) +\| ([\d.]+) +\|/.exec(line);
    if (row === null) break;
    costs.push({ subject: row[1] ?? '', minNs: Number(row[2]), medianNs: Number(row[3]) });
  }
  return costs;
}
