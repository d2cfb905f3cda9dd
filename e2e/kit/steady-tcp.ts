// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A pod that asks over TCP at a steady rate, whatever becomes of its queries: each on a connection of its own,
 * or all on one that stays open. Times are taken by the probe, so that a busy test process adds nothing.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { encodeQuestion, readReply, withLength } from '@tandem/testing/dns-query';
import type { Probe, Stream } from '@tandem/testing/probe';
import { ProbeError } from '@tandem/testing/probe-process';
import type { StreamResult } from '@tandem/testing/probe-types';

export interface SteadyTcpOptions {
  readonly server: string;
  /** Queries per second. */
  readonly rate: number;
  readonly seconds: number;
  /** The number of the query comes in place of "%u". */
  readonly nameFormat: string;
  readonly connections: 'one-each' | 'one';
  /** Default 2000: what takes longer is lost. */
  readonly timeoutMs?: number;
}

export interface SteadyTcpResult {
  readonly sent: number;
  readonly answered: number;
  /** Without an answer, and answered otherwise than by NOERROR, by how it ended. */
  readonly failures: Readonly<Record<string, number>>;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly maxUs: number;
}

export async function steadyTcp(probe: Probe, options: SteadyTcpOptions): Promise<SteadyTcpResult> {
  const { rate, seconds } = options;
  const ask = options.connections === 'one' ? askOnOne(probe, options) : askOnEach(probe, options);
  const failures: Record<string, number> = {};
  const times: number[] = [];
  const start = performance.now();
  const askOnce = async (number: number): Promise<void> => {
    const asked = performance.now();
    const outcome = await ask(number).catch(failureOf);
    if (typeof outcome === 'number') {
      times.push(outcome);
    } else {
      failures[outcome] = (failures[outcome] ?? 0) + 1;
      times.push((performance.now() - asked) * 1000);
    }
  };
  const queries: Promise<void>[] = [];
  for (let number = 0; number < rate * seconds; number++) {
    await delay(Math.max(0, start + (number * 1000) / rate - performance.now()));
    queries.push(askOnce(number));
  }
  await Promise.all(queries);
  times.sort((a, b) => a - b);
  const at = (share: number): number => Math.round(times[Math.floor(times.length * share)] ?? 0);
  const failed = Object.values(failures).reduce((sum, count) => sum + count, 0);
  return {
    sent: queries.length,
    answered: queries.length - failed,
    failures,
    p50Us: at(0.5),
    p99Us: at(0.99),
    maxUs: Math.round(times.at(-1) ?? 0),
  };
}

/** Microseconds until the answer, or how else it ended. */
type Ask = (number: number) => Promise<number | string>;

function askOnEach(probe: Probe, options: SteadyTcpOptions): Ask {
  const { server, timeoutMs = 2000 } = options;
  return async (number) => {
    const data = queryOf(options, number);
    return outcomeOf(await probe.tcp({ to: server, port: 53, data, messages: 1, timeoutMs }));
  };
}

/** One query after the other; the connection is made again when it has ended. */
function askOnOne(probe: Probe, options: SteadyTcpOptions): Ask {
  const { server, timeoutMs = 2000 } = options;
  let stream: Stream | null = null;
  let last: Promise<unknown> = Promise.resolve();
  const exchange = async (number: number): Promise<number | string> => {
    stream ??= await probe.connect({ to: server, port: 53, timeoutMs });
    try {
      const data = queryOf(options, number);
      return outcomeOf(await stream.exchange({ data, messages: 1, timeoutMs }));
    } catch (error) {
      stream = null;
      throw error;
    }
  };
  return (number) => {
    const own = last.then(() => exchange(number));
    last = own.catch(() => undefined);
    return own;
  };
}

function queryOf({ server, nameFormat }: SteadyTcpOptions, number: number): Uint8Array {
  return withLength(encodeQuestion({ server, name: nameFormat.replace('%u', `${number}`) }));
}

function outcomeOf({ data, totalUs }: StreamResult): number | string {
  const { rcode } = readReply(data.subarray(2), '');
  return rcode === 'NOERROR' ? totalUs : rcode;
}

function failureOf(error: unknown): string {
  if (error instanceof ProbeError) return error.code;
  throw error;
}
