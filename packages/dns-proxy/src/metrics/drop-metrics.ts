// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Metrics of the reader of the kernel's drop events, and of the events. In each process
 * seen + missing = all events that the kernel put into the ring since the first one that the process knows.
 */

import type { Metrics } from '@tandem/runtime/metrics';
import type { AdminContext } from '../admin/context.ts';
import { addFields } from './node-metrics.ts';

/** Names are API; docs/reference is generated from these lists. */
export const dropReaderHelp: Readonly<Record<string, string>> = {
  leasesTaken: 'starts of reading the ring of drop events by this process',
  leasesLost:
    'ends of reading the ring of drop events by this process because the other one took the lease',
  eventsRead: 'drop events read from the ring, known ones included',
  recordsSkipped: 'records of the ring skipped because their size is that of another version',
  batchesFenced: 'batches of drop events discarded because the other process read them first',
  ringsRepaired: 'resets of an invalid position of the ring; the events that it held are missing',
};
export const dropLedgerHelp: Readonly<Record<string, string>> = {
  seen: 'distinct drop events that this process has read or received from the other one',
  duplicates: 'drop events discarded as duplicates',
  tooOld: 'drop events discarded because they arrived too late to be checked for duplicates',
  foreign: 'drop events of the programs of another version, not checked for duplicates',
  impossible: 'drop events of the other process refused because the kernel has not written them',
};
export const dropReadingHelp = '1 while this process reads the ring of drop events';
export const dropMissingHelp =
  'drop events that the kernel wrote and this process does not have; the other process may still send them';
export const notToldHelp = 'events of the other process that it could not send to this one';

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
