// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** netkit interfaces of pods: Tandem's programs go on veths, so that nothing passes a netkit. */

import { type Check, pass, warn } from './check.ts';

const shownMax = 5;

export const checkNetkit: Check = ({ network: { state, problems } }) => {
  const unread = problems.get('links');
  if (unread !== undefined) return [warn('netkit', `interfaces cannot be read: ${unread}`)];
  const links = [...state.links.values()];
  const names = links.filter(({ kind }) => kind === 'netkit').map(({ name }) => name);
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
