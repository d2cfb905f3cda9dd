// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `td_config`, the programs' read-only data: set before they are loaded. */

import { randomBytes } from 'node:crypto';
import { isIpv4Prefix, type Prefix } from '@tandem/core/net/ip';
import { TD_NAT64_MAX, tdConfig, tdNat64 } from './abi.gen.ts';

export interface DatapathConfig {
  /** One bit of skb->mark that no other software of the node uses: a packet steered to the shared socket. */
  readonly mark: number;
  /** P, the port of the shared socket. */
  readonly port: number;
  /** Uid of the shared sockets. */
  readonly ownerUid: number;
  readonly netnsCookie: bigint;
  readonly staleNs: number;
  /** Seconds that an expired address stays while a connection uses it. */
  readonly fqdnIdleSeconds: number;
  /** Seconds after expiry in which an address takes new connections while an open one uses it; 0: none. */
  readonly fqdnLiveSeconds: number;
  /** Seconds after a packet in which its connection counts as using the address. */
  readonly fqdnLiveIdleSeconds: number;
  /** New TCP connections of one pod to the shared socket, per second and at once; 0: no bound. */
  readonly connectsPerSecond: number;
  /** Datagrams of one pod to the shared socket, per second and at once; 0: no bound. */
  readonly datagramsPerSecond: number;
  /** Prefixes of NAT64 gateways beside the well-known one: at most TD_NAT64_MAX, each an `isNat64Prefix`. */
  readonly nat64Prefixes: readonly Prefix[];
  readonly quotaNamespace: number;
  /** For the version before, which refuses by it. */
  readonly quotaSelector: number;
}

/**
 * Bits of the mark in the order in which the agent tries them. The first is that of versions which did not
 * choose. docs/operations.md says whose the others are.
 */
export const markCandidates = [0x1000, 0x40, 0x20] as const;

/** Whether `mark` is one bit of a mark. */
export function isMark(mark: number): boolean {
  return Number.isInteger(mark) && mark > 0 && mark <= 0x80000000 && (mark & (mark - 1)) === 0;
}

/** Whether a NAT64 gateway may have this prefix (RFC 6052, section 2.2). */
export function isNat64Prefix(prefix: Prefix): boolean {
  return !isIpv4Prefix(prefix) && [32, 40, 48, 56, 64, 96].includes(prefix.bits);
}

/** With a secret key of this load. */
export function encodeConfig(config: DatapathConfig): Uint8Array {
  const bytes = new Uint8Array(tdConfig.size);
  const view = new DataView(bytes.buffer);
  view.setUint32(tdConfig.mark, config.mark, true);
  view.setUint16(tdConfig.port_be, config.port, false);
  view.setUint32(tdConfig.owner_uid, config.ownerUid, true);
  view.setBigUint64(tdConfig.netns_cookie, config.netnsCookie, true);
  view.setBigUint64(tdConfig.stale_ns, BigInt(config.staleNs), true);
  view.setUint32(tdConfig.fqdn_idle_s, config.fqdnIdleSeconds, true);
  view.setUint32(tdConfig.quota_namespace, config.quotaNamespace, true);
  view.setUint32(tdConfig.quota_selector, config.quotaSelector, true);
  view.setUint32(tdConfig.fqdn_live_s, config.fqdnLiveSeconds, true);
  view.setUint32(tdConfig.fqdn_live_idle_s, config.fqdnLiveIdleSeconds, true);
  view.setUint32(tdConfig.connects_per_second, config.connectsPerSecond, true);
  view.setUint32(tdConfig.datagrams_per_second, config.datagramsPerSecond, true);
  view.setBigUint64(tdConfig.hash_key, randomBytes(8).readBigUInt64LE(), true);
  const prefixes = config.nat64Prefixes;
  if (prefixes.length > TD_NAT64_MAX) throw new RangeError(`${prefixes.length} NAT64 prefixes`);
  for (const [i, { address, bits }] of prefixes.entries()) {
    const at = tdConfig.nat64 + i * tdNat64.size;
    const words = new DataView(address.buffer, address.byteOffset, address.byteLength);
    view.setBigUint64(at + tdNat64.high, words.getBigUint64(0, false), true);
    view.setBigUint64(at + tdNat64.low, words.getBigUint64(8, false), true);
    view.setUint32(at + tdNat64.bits, bits, true);
  }
  return bytes;
}
