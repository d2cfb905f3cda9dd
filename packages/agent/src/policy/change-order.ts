// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The steps of a change of policy, in the order that keeps it safe (safety rule 12): the disk and the
 * members know a policy before the kernel names it, and new selectors know their addresses before an
 * endpoint is judged by them. Whatever is interrupted leaves the old policy or the new, never less.
 */

import type { Task } from '@tandem/runtime/task';

export interface PolicyChange {
  /** The snapshot is on disk, for whoever starts anew. */
  save(): Task | void;
  /** Members that are connected are told. */
  publish(): Task | void;
  /** The agent's own member serves it. */
  install(): Task | void;
  /** So do the others, or they lag behind. */
  acknowledge(): Task | void;
  /** Members that lag behind are passed over. */
  require(): Task | void;
  /** New selectors get the addresses of names that were answered before. */
  feed(): Task | void;
  /** The kernel's maps, in the order of `applyToDatapath`. */
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
