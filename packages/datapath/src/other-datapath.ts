// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Pins and network namespace must belong together. Two datapaths in one namespace, each of its own bpffsDir (a changed option, a
 * bpffs that was mounted over the pins): the second one would steer DNS of pods to itself and could not judge. Pins of another
 * namespace (an agent outside of the node's, or a container that is a node and was started again with the bpffs of its host):
 * their links would be taken for ones that judge here. Both are refused before anything is changed.
 */

import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { BpfError } from '@tandem/bpf-loader-node/errors';
import { BpfLink, isNetfilterTaken } from '@tandem/bpf-loader-node/link';
import { type JudgeLink, judgeLinks } from './hook-links.ts';
import { OtherDatapathError } from './hook-taken.ts';
import { pinPaths } from './paths.ts';

/** The kernel releases the links of a killed process some time after its end. */
const releaseMs = 2000;
const pollMs = 100;

/** The pins are of programs in another network namespace, so that none of them judges here. Nothing was changed. */
export class OtherNetworkError extends Error {
  constructor(root: string) {
    super(
      `the policy programs that are pinned in ${root} are attached in another network namespace and not in this one: start the agent in the namespace of the node (hostNetwork: true); where that one is gone, as after a restart of a container that is a node, end the DNS proxy and run \`tandem-agent remove --bpffs-dir=${root}\` first`,
    );
  }
}

/** @throws OtherDatapathError, OtherNetworkError */
export async function refuseOtherDatapath(root: string): Promise<void> {
  const pinned = judgeLinks().filter((place) => isPinnedAndAttached(root, place));
  if (pinned.length > 0) {
    if (!isAnyTaken(pinned)) throw new OtherNetworkError(root);
    return;
  }
  const endsMs = performance.now() + releaseMs;
  while (isPolicyAttached()) {
    if (performance.now() > endsMs) throw new OtherDatapathError(root);
    // oxlint-disable-next-line no-await-in-loop -- a poll
    await delay(pollMs);
  }
}

function isPinnedAndAttached(root: string, { name, priority }: JudgeLink): boolean {
  const path = pinPaths(root).link(name);
  if (!existsSync(path)) return false;
  using link = BpfLink.openPinned(path);
  const info = link.info();
  return info.kind === 'netfilter' && info.priority === priority;
}

/** Whether policy programs of any bpffsDir are attached in this network namespace. */
export function isPolicyAttached(): boolean {
  return isAnyTaken(judgeLinks());
}

function isAnyTaken(places: readonly JudgeLink[]): boolean {
  return places.some((place) => {
    try {
      return isNetfilterTaken(place);
    } catch (error) {
      // A family or feature that the kernel does not have: loading reports it.
      if (error instanceof BpfError) return false;
      throw error;
    }
  });
}
