// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** DNS over TCP as tests speak it: many lookups at once, many queries on one connection. */

import { encodeQuestion, type Rcode, readReply, withLength } from '@tandem/testing/dns-query';
import { concatBytes } from '@tandem/testing/packet';
import type { Probe } from '@tandem/testing/probe';
import { ProbeError } from '@tandem/testing/probe-process';

/** How lookups ended: by rcode, or by the error of the connection. */
export type Outcomes = Readonly<Record<string, number>>;

export interface LookupsOptions {
  readonly server: string;
  readonly names: readonly string[];
  readonly timeoutMs: number;
}

/** All names at once, each on a connection of its own, as a pod full of threads with `use-vc` asks. */
export async function lookUpAll(probe: Probe, options: LookupsOptions): Promise<Outcomes> {
  const { server, names, timeoutMs } = options;
  const lookUp = async (name: string): Promise<string> => {
    try {
      const data = withLength(encodeQuestion({ server, name }));
      const reply = await probe.tcp({ to: server, port: 53, data, messages: 1, timeoutMs });
      return readReply(reply.data.subarray(2), server).rcode;
    } catch (error) {
      if (error instanceof ProbeError) return error.code;
      throw error;
    }
  };
  return tally(await Promise.all(names.map(lookUp)));
}

export function tally(values: readonly string[]): Outcomes {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}

/** Queries for these names one after the other, with their number as id. */
export function pipelined(server: string, names: readonly string[]): Uint8Array {
  return concatBytes(names.map((name, id) => withLength(encodeQuestion({ server, name, id }))));
}

/** The rcodes of a stream's messages, by id. */
export function rcodesById(stream: Uint8Array): Map<number, Rcode> {
  const rcodes = new Map<number, Rcode>();
  for (let at = 0; at + 2 <= stream.length; ) {
    const length = ((stream[at] ?? 0) << 8) | (stream[at + 1] ?? 0);
    const message = stream.subarray(at + 2, at + 2 + length);
    if (message.length < length) break;
    rcodes.set(((message[0] ?? 0) << 8) | (message[1] ?? 0), readReply(message, '').rcode);
    at += 2 + length;
  }
  return rcodes;
}

/** `count` numbered names of a zone. */
export function namesOf(zone: string, count: number, first = 0): string[] {
  return Array.from({ length: count }, (_, i) => `n-${first + i}.${zone}`);
}
