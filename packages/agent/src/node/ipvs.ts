// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * kube-proxy in IPVS mode. IPVS gives the answers of a Service their ClusterIP back before POST_ROUTING, so that
 * `judge` does not find the flow that they belong to.
 */

import { closeSync, openSync, readSync } from 'node:fs';

/** Virtual services of the network namespace that reads it; absent while the module is not loaded. */
const tablePath = '/proc/net/ip_vs';
/** Where kube-proxy in IPVS mode has the ClusterIPs. */
export const ipvsInterface = 'kube-ipvs0';
/** Three lines of header and the first service. */
const headBytes = 1024;

/** Why Services go through IPVS; null: they do not. `path`: for tests. */
export function ipvsEvidence(hasInterface: boolean, path: string = tablePath): string | null {
  const head = readHead(path);
  // An interface without the module is what another mode of kube-proxy left.
  if (head === null) return null;
  if (/^(?:TCP|UDP|SCTP|FWM) /m.test(head)) return `${path} has virtual services`;
  return hasInterface ? `IPVS is loaded and ${ipvsInterface} exists` : null;
}

function readHead(path: string): string | null {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return null;
  }
  try {
    const bytes = Buffer.alloc(headBytes);
    return bytes.toString('latin1', 0, readSync(fd, bytes));
  } finally {
    closeSync(fd);
  }
}
