// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The standalone DNS proxy's process. */

import { proxyConfigSpec } from './config.ts';
import { runMember } from './member-process.ts';
import { DnsProxy } from './proxy.ts';

process.exitCode = await runMember(
  proxyConfigSpec,
  (parts) => new DnsProxy(parts),
  async (config) => {
    if (process.getuid?.() !== 0) return;
    const { dropRoot } = await import('./drop-root.ts');
    dropRoot(config);
  },
);
process.exit();
