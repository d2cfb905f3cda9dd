// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Reverse path filtering: works with Tandem in every setting, shown because it explains other drops. */

import { type Check, info } from './check.ts';
import { readSysctl } from './system.ts';

const modes: Readonly<Record<string, string>> = { 0: 'off', 1: 'strict', 2: 'loose' };

export const checkRouteFilter: Check = () => {
  const filter = readSysctl('net.ipv4.conf.all.rp_filter') ?? '?';
  const validMark = readSysctl('net.ipv4.conf.all.src_valid_mark') ?? '?';
  return [
    info(
      'rp-filter',
      `net.ipv4.conf.all.rp_filter=${filter} (${modes[filter] ?? 'unknown'}), src_valid_mark=${validMark}; interfaces may be stricter on their own. Our routing rules name port P, so that the mark does not turn the reverse path`,
    ),
  ];
};
