// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Option `metricsAddress`. */

import type { HttpAddress } from '@tandem/runtime/metrics-server';

/** "127.0.0.1:9100", "[::1]:9100" or an absolute path; null when it is none of these. */
export function parseMetricsAddress(text: string, groupId: number): HttpAddress | null {
  if (text.startsWith('/')) return { kind: 'unix', path: text, groupId };
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9A-Za-z.-]+)):([0-9]{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535) return null;
  return { kind: 'tcp', host, port };
}
