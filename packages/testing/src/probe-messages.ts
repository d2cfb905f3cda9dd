// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Requests to a probe and its answers, as its lines have them (`probe-process.ts`). */

import { type Answer, hexBytes } from './probe-process.ts';
import type {
  BulkResult,
  ConnectOptions,
  ExchangeOptions,
  SocketOptions,
  StreamResult,
  UdpReply,
  UdpResult,
} from './probe-types.ts';

export function socketArguments(
  options: SocketOptions,
): Record<string, string | number | boolean | undefined> {
  return {
    source: options.source,
    sport: options.sourcePort,
    mark: options.mark,
    priority: options.priority,
    uid: options.uid,
    device: options.device,
    ttl: options.ttl,
    transparent: options.transparent,
    reuseport: options.reusePort,
    reuseaddr: options.reuseAddress,
    nocheck: options.noChecksum,
    segment: options.segmentBytes,
    broadcast: options.broadcast,
    timeout: options.timeoutMs,
  };
}

export function exchangeArguments(
  options: ExchangeOptions,
): Record<string, string | number | boolean | Uint8Array | undefined> {
  const { data = '', want, messages, untilEnd, timeoutMs } = options;
  const sent = typeof data === 'object' && 'isKept' in data ? '@' : bytesOf(data);
  return { data: sent, want, messages, untilEnd, timeout: timeoutMs };
}

export function connectArguments(
  options: ConnectOptions,
): Record<string, string | number | boolean | Uint8Array | undefined> {
  const { to, port } = options;
  return { ...socketArguments(options), ...exchangeArguments(options), to, port };
}

export function udpResult(answer: Answer): UdpResult {
  const ports = answer.all('fromPort');
  const times = answer.all('afterUs');
  const data = answer.all('data');
  const replies: UdpReply[] = answer.all('from').map((from, i) => ({
    from,
    fromPort: Number(ports[i]),
    afterUs: Number(times[i]),
    data: hexBytes(data[i] ?? ''),
  }));
  return { local: answer.text('local'), localPort: answer.number('localPort'), replies };
}

export function streamResult(answer: Answer): StreamResult {
  return {
    local: answer.text('local'),
    localPort: answer.number('localPort'),
    connectUs: answer.number('connectUs'),
    totalUs: answer.number('totalUs'),
    retransmits: answer.number('retransmits'),
    hasEnded: answer.number('ended') === 1,
    data: answer.bytes('data'),
  };
}

export function bulkResult(answer: Answer): BulkResult {
  const latency = (name: string): BulkResult['dnsUs'] => {
    if (answer.all(`${name}P50Us`).length === 0) return null;
    const [p50, p99] = [answer.number(`${name}P50Us`), answer.number(`${name}P99Us`)];
    return { p50, p99, max: answer.number(`${name}MaxUs`) };
  };
  return {
    names: answer.number('names'),
    connected: answer.number('connected'),
    retransmitted: answer.number('retransmitted'),
    connectErrors: answer.number('connectErrors'),
    connectTimeouts: answer.number('connectTimeouts'),
    rcodes: answer.number('rcodes'),
    empty: answer.number('empty'),
    dnsErrors: answer.number('dnsErrors'),
    dnsTimeouts: answer.number('dnsTimeouts'),
    dnsRetried: answer.number('retried'),
    elapsedUs: answer.number('elapsedUs'),
    dnsUs: latency('dns'),
    connectUs: latency('connect'),
    failures: answer.all('failure'),
  };
}

export function bytesOf(data: Uint8Array | string): Uint8Array {
  return typeof data === 'string' ? new TextEncoder().encode(data) : data;
}
