// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** netkit interfaces of pods: Tandem's programs go on veths, so that nothing passes a netkit. */

import { type Check, pass, warn } from './check.ts';
import { readJson } from './system.ts';

const shownMax = 5;

export const checkNetkit: Check = async () => {
  const links = await readJson<readonly { readonly ifname: string }[]>('ip', [
    ...['-j', 'link', 'show', 'type', 'netkit'],
  ]);
  // An ip that does not know the kind says so; the agent names such interfaces by what the kernel says.
  const names = links.ok ? links.value.map(({ ifname }) => ifname).filter(Boolean) : [];
  if (names.length === 0) return [pass('netkit', 'no netkit interfaces')];
  const shown = names.slice(0, shownMax).join(', ');
  return [
    warn(
      'netkit',
      `${names.length} netkit interfaces (${shown}): nothing of a pod behind one passes`,
      'have the CNI make veth pairs (Cilium: bpf.datapathMode=veth)',
    ),
  ];
};
