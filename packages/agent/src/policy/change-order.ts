// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The steps of a change of policy, in the order that keeps it safe (safety rule 12): the disk and the
 * members know a policy before the kernel names it, and new selectors know their addresses before an
 * endpoint is judged by them. An interruption leaves the old policy or the new one in force, never less.
 */

import type { Task } from '@tandem/runtime/task';

export interface PolicyChange {
  /** Writes the snapshot to disk, for a process that starts. */
  save(): Task | void;
  /** Sends the snapshot to the connected members. */
  publish(): Task | void;
  /** Installs it in the agent's own member. */
  install(): Task | void;
  /** Waits until the other members serve it, or are behind. */
  acknowledge(): Task | void;
  /** Makes the kernel prefer members that serve it. */
  require(): Task | void;
  /** Gives new selectors the addresses of the name cache. */
  feed(): Task | void;
  /** Writes the kernel's maps, in the order of `applyToDatapath`. */
  apply(): Task | void;
}

export const changeOrder: readonly (keyof PolicyChange)[] = [
  'save',
  'publish',
  'install',
  'acknowledge',
  'require',
  'feed',
  'apply',
];
