// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** File systems that Tandem stands on. */

import { cgroup2At, findCgroup2 } from '@tandem/datapath/cgroup';
import { bpffsMountCommand, isInBpffs } from '@tandem/datapath/directories';
import { type Check, type CheckResult, fail, pass, skip, warn } from './check.ts';

export const checkMounts: Check = ({ settings }) => [
  checkBpffs(settings.bpffsDir),
  checkCgroup(settings.cgroupPath),
];

function checkBpffs(bpffsDir: string): CheckResult {
  if (isInBpffs(bpffsDir)) {
    return pass('bpffs', `${bpffsDir} lies in a bpffs`);
  }
  return fail(
    'bpffs',
    `${bpffsDir} lies in no bpffs: nothing can be pinned there, and policy would end with the agent`,
    bpffsMountCommand(bpffsDir),
  );
}

const mountCommand = 'mkdir -p /run/cgroup2 && mount -t cgroup2 cgroup2 /run/cgroup2';

function checkCgroup(cgroupPath: string): CheckResult {
  const check = 'cgroup2';
  if (cgroupPath === '') {
    return skip(
      check,
      'cgroupPath is empty: other processes are not kept off port P, as configured',
    );
  }
  const found = findCgroup2();
  const path = cgroupPath === 'auto' ? found : cgroupPath;
  if (path === null) {
    return warn(
      check,
      'no cgroup v2 is mounted: the agent cannot keep other processes off port P',
      mountCommand,
    );
  }
  const kind = cgroup2At(path);
  if (kind === 'root') return pass(check, `${path} is the cgroup v2 of the node`);
  if (kind === 'part') {
    return warn(
      check,
      `${path} is a part of the cgroup v2 of the node: processes outside of it are not kept off port P`,
      `mount the node's hierarchy into the agent's container, or set cgroupPath: ${mountCommand} on the node`,
    );
  }
  return warn(
    check,
    `${path} is no cgroup v2: the agent cannot keep other processes off port P there`,
    found === null ? mountCommand : `set cgroupPath of the agent: --cgroup-path=${found}, or auto`,
  );
}
