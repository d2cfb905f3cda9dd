// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** File systems that Tandem stands on. */

import { existsSync } from 'node:fs';
import { type Check, type CheckResult, fail, pass, skip, warn } from './check.ts';
import { fileSystemAt, fileSystemType } from './system.ts';

export const checkMounts: Check = ({ settings }) => [
  checkBpffs(settings.bpffsDir),
  checkCgroup(settings.cgroupPath),
];

function checkBpffs(bpffsDir: string): CheckResult {
  if (fileSystemAt(bpffsDir) === fileSystemType.bpf) {
    return pass('bpffs', `${bpffsDir} lies in a bpffs`);
  }
  return fail(
    'bpffs',
    `${bpffsDir} lies in no bpffs: nothing can be pinned there, and policy would end with the agent`,
    'mount -t bpf bpf /sys/fs/bpf',
  );
}

/** Where systemd mounts cgroup v2 beside v1. */
const hybridPath = '/sys/fs/cgroup/unified';

function checkCgroup(cgroupPath: string): CheckResult {
  const check = 'cgroup2';
  if (cgroupPath === '') {
    return skip(
      check,
      'cgroupPath is empty: other processes are not kept off port P, as configured',
    );
  }
  if (existsSync(cgroupPath) && fileSystemAt(cgroupPath) === fileSystemType.cgroup2) {
    return pass(check, `${cgroupPath} is cgroup v2`);
  }
  const isHybrid = existsSync(hybridPath) && fileSystemAt(hybridPath) === fileSystemType.cgroup2;
  return warn(
    check,
    `${cgroupPath} is no cgroup v2: the agent cannot keep other processes off port P there`,
    isHybrid
      ? `set cgroupPath of the agent: --cgroup-path=${hybridPath}`
      : 'mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1',
  );
}
