// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `td_config`, the programs' read-only data: set before they are loaded. */

import { tdConfig } from './abi.gen.ts';

export interface MarkConfig {
  /** Two adjacent bits of skb->mark that nobody else on the node uses. */
  readonly mask: number;
  /** A packet steered to the shared socket: the low bit. */
  readonly redirect: number;
  /** A packet of the shared socket: the high bit. */
  readonly socket: number;
  /** A packet whose source `from_pod` verified: both bits. */
  readonly seen: number;
}

export interface DatapathConfig {
  readonly mark: MarkConfig;
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
  readonly quotaNamespace: number;
  /** For the version before, which refuses by it. */
  readonly quotaSelector: number;
}

/** The four values of a two-bit mark, or null when `mask` is not two adjacent bits. */
export function markConfig(mask: number): MarkConfig | null {
  const low = mask & -mask;
  if (low << 1 === 0 || mask >>> 0 !== (low | (low << 1)) >>> 0) return null;
  return { mask: mask >>> 0, redirect: low >>> 0, socket: (low << 1) >>> 0, seen: mask >>> 0 };
}

export function encodeConfig(config: DatapathConfig): Uint8Array {
  const bytes = new Uint8Array(tdConfig.size);
  const view = new DataView(bytes.buffer);
  view.setUint32(tdConfig.mark_mask, config.mark.mask, true);
  view.setUint32(tdConfig.mark_redirect, config.mark.redirect, true);
  view.setUint32(tdConfig.mark_socket, config.mark.socket, true);
  view.setUint32(tdConfig.mark_seen, config.mark.seen, true);
  view.setUint16(tdConfig.port_be, config.port, false);
  view.setUint32(tdConfig.owner_uid, config.ownerUid, true);
  view.setBigUint64(tdConfig.netns_cookie, config.netnsCookie, true);
  view.setBigUint64(tdConfig.stale_ns, BigInt(config.staleNs), true);
  view.setUint32(tdConfig.fqdn_idle_s, config.fqdnIdleSeconds, true);
  view.setUint32(tdConfig.quota_namespace, config.quotaNamespace, true);
  view.setUint32(tdConfig.quota_selector, config.quotaSelector, true);
  view.setUint32(tdConfig.fqdn_live_s, config.fqdnLiveSeconds, true);
  view.setUint32(tdConfig.fqdn_live_idle_s, config.fqdnLiveIdleSeconds, true);
  return bytes;
}
