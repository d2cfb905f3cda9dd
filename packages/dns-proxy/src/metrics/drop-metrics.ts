// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Metrics of who reads the kernel's drop events and where they went. What a process knows of adds up:
 * seen + missing = all events that the kernel put into the ring since the first of them.
 */

import type { Metrics } from '@tandem/runtime/metrics';
import type { AdminContext } from '../admin/context.ts';
import { addFields } from './node-metrics.ts';

/** Names are API; docs/reference is generated from these lists. */
export const dropReaderHelp: Readonly<Record<string, string>> = {
  leasesTaken: 'times that this process became the reader of the ring of drop events',
  leasesLost: 'times that another process became the reader in place of this one',
  eventsRead: 'drop events read from the ring, again those that were known',
  recordsSkipped: 'records of the ring of another size, of programs of another version',
  batchesFenced: 'batches dropped because another process had read them meanwhile',
  ringsRepaired:
    'times that the position of the ring could not be right and was set anew: the events that were in it are missing',
};
export const dropLedgerHelp: Readonly<Record<string, string>> = {
  seen: 'drop events that this process has seen, by itself or from the other one, each once',
  duplicates: 'drop events that came again and were dropped',
  tooOld:
    'drop events that came too late to tell whether they had been seen before, and were dropped',
  foreign: "drop events of another version's programs, shown as they come",
  impossible: 'drop events of the other process that the kernel never made, refused',
};
export const dropReadingHelp = '1 while this process reads the ring of drop events';
export const dropMissingHelp =
  'drop events that the kernel made and this process has not seen; they may still come from the other one';
export const notToldHelp = 'events of the other process that were lost on the way';

export function addDropMetrics(metrics: Metrics, { drops, store }: AdminContext): void {
  metrics.gauge({ name: 'tandem_drop_reading', help: dropReadingHelp }, () =>
    drops()?.isReading === true ? 1 : 0,
  );
  metrics.gauge(
    { name: 'tandem_drop_events_missing', help: dropMissingHelp },
    () => store.drops.missing,
  );
  metrics.counters({ name: 'tandem_events_not_told_total', help: notToldHelp }, [], () => [
    { value: store.notTold },
  ]);
  addFields(metrics, 'tandem_drop_reader', dropReaderHelp, () => drops()?.counters ?? {});
  addFields(metrics, 'tandem_drop_events', dropLedgerHelp, () => store.drops);
}
