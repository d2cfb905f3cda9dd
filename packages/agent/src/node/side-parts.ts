// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Parts of the datapath that enforcement does not need, as status shows them when they are missing. */

import type { SidePart } from '@tandem/datapath/datapath';
import type { Degradation } from '@tandem/dns-proxy/admin/degradations';

const texts: Readonly<Record<SidePart, Degradation>> = {
  pins: {
    code: 'pins-missing',
    message:
      'pins of maps or programs are missing and cannot be put back: what has none ends with the agent',
    fix: 'give the agent a bpffs that it can write and memory; it is tried again every few seconds; find out who removes files in bpffsDir',
  },
  sharing: {
    code: 'pins-not-shared',
    message: 'the DNS proxy cannot open the pinned maps and programs',
    fix: 'give the agent CAP_CHOWN and a writable bpffs; it is tried again every few seconds',
  },
  guard: {
    code: 'port-unguarded',
    message: 'other processes of the node are not kept off port P',
    fix: 'mkdir -p /run/cgroup2 && mount -t cgroup2 cgroup2 /run/cgroup2: it is found by itself within seconds; or set cgroupPath, empty for no guard',
  },
  removal: {
    code: 'old-pins',
    message: 'pins of versions that are not used any more could not be removed',
    fix: 'none needed, they only take memory; the agent tries again every few seconds',
  },
};

export function sideDegradations(problems: ReadonlyMap<SidePart, string>): readonly Degradation[] {
  return [...problems].map(([part, reason]) => {
    const { code, message, fix } = texts[part];
    return { code, message: `${message}: ${reason}`, fix };
  });
}
