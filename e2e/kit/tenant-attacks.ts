// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Attacks of a tenant on its node's DNS: with many silent servers, with a server of its own that streams junk
 * or reads nothing, with queries over TCP at line rate. Each attack lasts for a time and tells what it did.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { encodeQuestion, withLength } from '@tandem/testing/dns-query';
import { numberedAddress } from '@tandem/testing/dns-script';
import { concatBytes } from '@tandem/testing/packet';
import type { Probe } from '@tandem/testing/probe';
import { goOn } from './attack.ts';
import { clusterDns4 } from './standard-node.ts';

/** One query a millisecond or less at a time: a burst is not the attack. */
const pacingMs = 25;

export interface SilentServersOptions {
  /** Address of the first server. */
  readonly first: string;
  readonly servers: number;
  /** Queries per second, to the servers in turn. */
  readonly rate: number;
  readonly seconds: number;
}

/** Asks many servers that never answer. */
export async function askSilentServers(
  probe: Probe,
  options: SilentServersOptions,
): Promise<string> {
  const { first, servers, rate, seconds } = options;
  const start = performance.now();
  const sends: Promise<unknown>[] = [];
  for (;;) {
    const elapsedMs = performance.now() - start;
    if (elapsedMs >= seconds * 1000) break;
    while (sends.length < (elapsedMs * rate) / 1000) {
      const number = sends.length % servers;
      const to = numberedAddress(first, number);
      const data = encodeQuestion({ server: to, name: `x-${number}.allowed.test` });
      sends.push(probe.udp({ to, port: 53, data, want: 0 }).catch(goOn));
    }
    await delay(pacingMs);
  }
  await Promise.all(sends);
  return `${sends.length} queries to ${servers} silent servers`;
}

/** Replies that answer nothing, with an id each: what a server streams. */
export function junkReplies(count: number): Uint8Array {
  const replies = Array.from({ length: count }, (_, id) =>
    withLength(Uint8Array.of(id >> 8, id & 255, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)),
  );
  return concatBytes(replies);
}

export interface JunkOptions {
  readonly server: string;
  /** Addresses of the server, from that on. */
  readonly spread: number;
  readonly connections: number;
  readonly seconds: number;
}

/** Asks, again and again, a server that answers with junk without end. */
export async function askJunkServer(probe: Probe, options: JunkOptions): Promise<string> {
  const { server, spread, connections, seconds } = options;
  const data = withLength(encodeQuestion({ server, name: 'never-1.allowed.test' }));
  const poured = await probe.pour({
    ...{ to: server, port: 53, spread, connections, data, seconds },
    ...{ burst: 1, pauseMs: 500 },
  });
  return `${poured.opened} connections to a server that streams junk, ${poured.ended} were ended`;
}

export interface LineRateOptions {
  readonly name: string;
  readonly connections: number;
  readonly seconds: number;
}

/** Writes one query as fast as it is taken. */
export async function writeAtLineRate(probe: Probe, options: LineRateOptions): Promise<string> {
  const { name, connections, seconds } = options;
  const data = withLength(encodeQuestion({ server: clusterDns4, name }));
  const { messages, bytesRead, ended } = await probe.pour({
    ...{ to: clusterDns4, port: 53, connections, data, seconds },
  });
  return (
    `${Math.round(messages / seconds)} queries a second for ${name} written, ` +
    `${Math.round(bytesRead / 1024 / seconds)} KiB a second of answers, ${ended} connections were ended`
  );
}

const paddingOption = 12;
const paddingBytes = 65_400;

export interface UnreadRepliesOptions {
  readonly name: string;
  readonly connections: number;
  /** Queries of a connection. Default: no end. */
  readonly perConnection?: number;
  /** Then a connection is opened again. Default: it stays. */
  readonly lifeMs?: number;
  readonly seconds: number;
}

/** Asks for a name's texts, as long an answer as the name has, and never reads one. */
export async function readNoReply(probe: Probe, options: UnreadRepliesOptions): Promise<string> {
  const { name, connections, perConnection = 0, lifeMs = 0, seconds } = options;
  const data = withLength(encodeQuestion({ server: clusterDns4, name, type: 'TXT' }));
  const { messages, opened, ended } = await probe.pour({
    ...{ to: clusterDns4, port: 53, connections, data, seconds },
    ...{ burst: perConnection, lifeMs, isUnread: true },
  });
  return `${messages} queries on ${opened} connections that read nothing, ${ended} were ended`;
}

/** A legal query as long as TCP carries it: an OPT record with padding (RFC 7830). */
export function paddedQuery(server: string): Uint8Array {
  const plain = encodeQuestion({ server, name: 'x-1.allowed.test', ednsBytes: 1232 });
  const option = new Uint8Array(4 + paddingBytes);
  const view = new DataView(option.buffer);
  view.setUint16(0, paddingOption);
  view.setUint16(2, paddingBytes);
  const query = concatBytes([plain, option]);
  // The OPT record is the last and had no data.
  new DataView(query.buffer).setUint16(plain.length - 2, option.length);
  return query;
}

export interface LongQueriesOptions {
  /** Accepts and does not read. */
  readonly server: string;
  readonly spread: number;
  readonly connections: number;
  readonly perConnection: number;
  readonly seconds: number;
}

/** Long queries that the server does not take, on connections that are made again every few seconds. */
export async function writeLongQueries(probe: Probe, options: LongQueriesOptions): Promise<string> {
  const { server, spread, connections, perConnection, seconds } = options;
  const data = withLength(paddedQuery(server));
  const { messages, opened, ended } = await probe.pour({
    ...{ to: server, port: 53, spread, connections, data, seconds },
    ...{ burst: perConnection, lifeMs: 3500 },
  });
  return `${messages} queries of ${data.length - 2} octets on ${opened} connections, ${ended} were ended`;
}
