// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * `tandem observe`: DNS and drop events of the node, one line each, the past ones that were asked for and
 * then those that come. When the process that answers ends, the other one goes on.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { ObserveRequestInit, ObserveResponse } from '@tandem/proto/gen/messages';
import { EventType } from '@tandem/proto/gen/messages';
import { AdminService } from '@tandem/proto/gen/services';
import { TandemError } from '@tandem/runtime/tandem-error';
import { Option } from 'commander';
import { connectAdmin } from '../admin/connection.ts';
import { type EventVerdictName, eventVerdictNumber, eventVerdicts } from '../admin/names.ts';
import type { CliCommand, CommandContext } from '../command.ts';
import { integerIn, nameOption, podOption, secondsUpTo } from '../command-options.ts';
import { type ExitCode, exitCode } from '../exit-codes.ts';
import {
  observeLastDefault,
  observeLastMax,
  observeRetryMs,
  observeRetryMsMax,
  observeSinceSecondsMax,
  observeSortedEventsMax,
} from '../limits.ts';
import { eventJson, eventLine } from '../observe/event-text.ts';
import { RecentEvents } from '../observe/recent-events.ts';

interface ObserveOptions {
  readonly pod?: string;
  readonly name?: string;
  readonly verdict?: EventVerdictName;
  readonly type?: 'dns' | 'drop';
  readonly last?: number;
  readonly since?: number;
  readonly follow: boolean;
}

export const observeCommand: CliCommand = {
  name: 'observe',
  summary: 'DNS and drop events of the node as they happen, one line each',
  details: [
    'Without --last or --since it begins with the next event; --no-follow alone shows the last ones.',
    'With -o json each line is a document. Exits with 0 on an interrupt, and when its output is closed.',
    'If the process that answers ends, the other process continues.',
  ].join('\n'),
  configure: (command) =>
    void command
      .addOption(podOption())
      .addOption(nameOption())
      .addOption(
        new Option('--verdict <verdict>', 'only events of this verdict').choices(eventVerdicts),
      )
      .addOption(new Option('--type <type>', 'only this type of event').choices(['dns', 'drop']))
      .option(
        '--last <count>',
        'begin with this number of past events',
        integerIn(1, observeLastMax),
      )
      .option(
        '--since <duration>',
        'begin with the past events of this time, such as 30s, 5m, 2h',
        secondsUpTo(observeSinceSecondsMax),
      )
      .option('-f, --follow', 'continue with new events', true)
      .option('--no-follow', 'end after the past events'),
  run: async (context, options): Promise<ExitCode> => {
    const known = options as unknown as ObserveOptions;
    const request = requestOf(known);
    if (known.follow) await follow(context, request);
    else await showPast(context, request);
    return exitCode.ok;
  },
};

function requestOf(options: ObserveOptions): ObserveRequestInit {
  const hasPast = options.last !== undefined || options.since !== undefined;
  const types = { dns: EventType.EVENT_TYPE_DNS, drop: EventType.EVENT_TYPE_DROP } as const;
  return {
    pod: options.pod ?? '',
    namePattern: options.name ?? '',
    last: options.last ?? (hasPast || options.follow ? 0 : observeLastDefault),
    sinceS: options.since ?? 0,
    follow: options.follow,
    ...(options.verdict === undefined ? {} : { verdict: eventVerdictNumber(options.verdict) }),
    ...(options.type === undefined ? {} : { type: types[options.type] }),
  };
}

/** Past events alone, by time: each process has them in the order in which it received them. */
async function showPast(context: CommandContext, request: ObserveRequestInit): Promise<void> {
  const { settings, signal, notes, wantsJson } = context;
  using admin = await connectAdmin(settings, signal, wantsJson ? null : notes);
  const events: ObserveResponse[] = [];
  for await (const event of admin.client.serverStream(AdminService.observe, request, signal)) {
    if (events.length < observeSortedEventsMax) events.push(event);
    else await show(context, event);
  }
  events.sort((left, right) => left.timeUnixMs - right.timeUnixMs);
  for (const event of events) await show(context, event);
}

/** Where a follower stands between two connections. */
interface Position {
  /** Up to this wall clock it has seen all; null: it never had a connection. */
  seenMs: number | null;
  /** The last reason of an interruption, printed once. */
  reason: string;
  retryMs: number;
}

async function follow(context: CommandContext, first: ObserveRequestInit): Promise<void> {
  const { signal, notes, nowMs } = context;
  const recent = new RecentEvents();
  const position: Position = { seenMs: null, reason: '', retryMs: observeRetryMs };
  for (;;) {
    const { seenMs } = position;
    try {
      // What came since, and a second for events that the other process received late.
      const gapS = seenMs === null ? 0 : Math.ceil((nowMs() - seenMs) / 1000) + 1;
      const sinceS = Math.min(gapS, observeSinceSecondsMax);
      await followOnce(
        context,
        seenMs === null ? first : { ...first, last: 0, sinceS },
        recent,
        position,
      );
    } catch (error) {
      if (!signal.aborted && !mayRetry(error, position)) throw error;
      const reason = TandemError.from(error).message;
      if (!signal.aborted && reason !== position.reason) {
        notes.line({ text: `events interrupted: ${reason}`, style: 'warning' });
      }
      position.reason = reason;
    }
    // The wait ends early with the command.
    await delay(position.retryMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    position.retryMs = Math.min(position.retryMs * 2, observeRetryMsMax);
  }
}

async function followOnce(
  context: CommandContext,
  request: ObserveRequestInit,
  recent: RecentEvents,
  position: Position,
): Promise<void> {
  const { settings, signal, notes, wantsJson, nowMs } = context;
  using admin = await connectAdmin(settings, signal, wantsJson ? null : notes);
  position.seenMs ??= nowMs();
  for await (const event of admin.client.serverStream(AdminService.observe, request, signal)) {
    // A process that hangs is noticed late: only what arrives says that nothing is missing before it.
    position.seenMs = nowMs();
    position.retryMs = observeRetryMs;
    position.reason = '';
    // Both processes show most events: events shown before the change are not shown again.
    if (recent.add(event)) await show(context, event);
  }
}

/** A wrong request stays wrong; a process that ended is replaced by the other, or comes back. */
function mayRetry(error: unknown, { seenMs }: Position): boolean {
  if (seenMs === null || !(error instanceof TandemError)) return false;
  if (error.code === 'TANDEM_CLI_UNREACHABLE') return true;
  const status = error.facts['status'];
  return status === 'UNAVAILABLE' || status === 'CANCELLED' || status === 'INTERNAL';
}

async function show(context: CommandContext, event: ObserveResponse): Promise<void> {
  const { out, notes, wantsJson, signal } = context;
  if (event.lost > 0 && !wantsJson) {
    const text = `${event.lost} events lost: they came faster than they were read`;
    notes.line({ text, style: 'warning' });
  }
  if (wantsJson) out.jsonLine(eventJson(event));
  else out.line(...eventLine(event));
  await out.drained(signal);
}
