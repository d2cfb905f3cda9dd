// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The place of `judge` in a netfilter hook is taken: only an agent attaches at its priorities. */

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { BpfError } from '@tandem/bpf-loader-node/errors';
import { mountsOf } from './mounts.ts';
import { judgeHooks, pinPaths } from './paths.ts';

const rootsShownMax = 8;

/** The datapath of another bpffsDir is attached on the node, and enforces its last policy. */
export class OtherDatapathError extends Error {
  /** `root`: the bpffsDir whose programs cannot be attached. */
  constructor(root: string) {
    const others = otherRoots(root).slice(0, rootsShownMax);
    const where =
      others.length === 0
        ? 'its pins are in no bpffs that this process sees: another bpffs is mounted over them (`findmnt -t bpf` lists both; unmount the upper one), or they were removed while its agent runs (end that agent)'
        : `its bpffsDir is ${others.join(' or ')}: set bpffsDir to it for both processes, or end its processes and run \`tandem-agent remove --bpffs-dir=${others.length === 1 ? others[0] : 'DIR'}\``;
    super(
      `the policy programs of another bpffsDir are attached on this node and enforce their last policy, so those of ${root} cannot be attached; ${where}`,
    );
  }
}

/** The error, or OtherDatapathError where it says that the place is taken. */
export function namedHookTaken(error: unknown, root: string): unknown {
  return error instanceof BpfError && error.errnoName === 'EBUSY'
    ? new OtherDatapathError(root)
    : error;
}

/**
 * Other directories with the pins of a policy program: at the mount point of a bpffs that this process sees, or one below it. The
 * kernel does not say of which network namespace a link is.
 */
export function otherRoots(root: string): readonly string[] {
  return mountsOf('bpf')
    .flatMap(({ point }) => [point, ...directoriesOf(point)])
    .filter(
      (each) => each !== root && existsSync(pinPaths(each).link(`${judgeHooks[0].name}_ipv4`)),
    );
}

function directoriesOf(path: string): readonly string[] {
  try {
    return readdirSync(path).map((name) => join(path, name));
  } catch {
    return [];
  }
}
