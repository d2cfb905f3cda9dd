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
import { type AdminConnection, connectAdmin } from '../admin/connection.ts';
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
    'With -o json each line is a document. Ends with 0 on an interrupt or when nobody reads.',
    'While it follows, it goes over to the other process when the one that answers ends.',
  ].join('\n'),
  configure: (command) =>
    void command
      .addOption(podOption())
      .addOption(nameOption())
      .addOption(
        new Option('--verdict <verdict>', 'only events of this verdict').choices(eventVerdicts),
      )
      .addOption(new Option('--type <type>', 'only this type of event').choices(['dns', 'drop']))
      .option('--last <count>', 'first the last so many past events', integerIn(1, observeLastMax))
      .option(
        '--since <duration>',
        'first the past events of this time, such as 30s, 5m, 2h',
        secondsUpTo(observeSinceSecondsMax),
      )
      .option('-f, --follow', 'go on with new events (default)', true)
      .option('--no-follow', 'end after the past events'),
  run: async (context, options): Promise<ExitCode> => {
    await observe(context, options as unknown as ObserveOptions);
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

async function observe(context: CommandContext, options: ObserveOptions): Promise<void> {
  const { settings, signal, notes, wantsJson, nowMs } = context;
  const recent = new RecentEvents();
  let request = requestOf(options);
  let retryMs = observeRetryMs;
  for (;;) {
    let admin: AdminConnection | null = null;
    try {
      admin = await connectAdmin(settings, signal, wantsJson ? null : notes);
      const isFirst = recent.isEmpty;
      for await (const event of admin.client.serverStream(AdminService.observe, request, signal)) {
        retryMs = observeRetryMs;
        // Both processes show most events: what was shown before the change is not shown again.
        if (recent.add(event)) await show(context, event);
      }
      if (signal.aborted || !options.follow) return;
      if (isFirst && recent.isEmpty) retryMs = Math.min(retryMs * 2, observeRetryMsMax);
    } catch (error) {
      if (signal.aborted) return;
      if (!mayRetry(error, options, admin !== null || !recent.isEmpty)) throw error;
      const reason = TandemError.from(error).message;
      notes.line({ text: `events interrupted: ${reason}`, style: 'warning' });
      retryMs = Math.min(retryMs * 2, observeRetryMsMax);
    } finally {
      admin?.[Symbol.dispose]();
    }
    const interruptedMs = nowMs();
    // The wait ends early with the command.
    await delay(retryMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    // What came meanwhile, and a second for what the other process heard of late.
    const sinceS = Math.ceil((nowMs() - interruptedMs) / 1000) + 1;
    request = { ...request, last: 0, sinceS };
  }
}

/** A wrong request stays wrong; a process that ended is replaced by the other, or comes back. */
function mayRetry(error: unknown, options: ObserveOptions, hasAnswered: boolean): boolean {
  if (!options.follow || !hasAnswered || !(error instanceof TandemError)) return false;
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
