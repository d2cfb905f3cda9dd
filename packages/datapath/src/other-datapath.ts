// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Two datapaths on one node, each of its own bpffsDir: after a change of bpffsDir, or when a bpffs was mounted over the
 * pins. The second one would steer DNS of pods to itself and could not judge, so it is refused before it changes anything.
 */

import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { BpfError } from '@tandem/bpf-loader-node/errors';
import { isNetfilterTaken } from '@tandem/bpf-loader-node/link';
import { judgeLinks } from './hook-links.ts';
import { OtherDatapathError } from './hook-taken.ts';
import { pinPaths } from './paths.ts';

/** The kernel releases the links of a killed process some time after its end. */
const releaseMs = 2000;
const pollMs = 100;

/**
 * Costs nothing where an agent before this one has attached its programs. Changes nothing.
 * @throws OtherDatapathError
 */
export async function refuseOtherDatapath(root: string): Promise<void> {
  const paths = pinPaths(root);
  if (judgeLinks().some(({ name }) => existsSync(paths.link(name)))) return;
  const endsMs = performance.now() + releaseMs;
  while (isPolicyAttached()) {
    if (performance.now() > endsMs) throw new OtherDatapathError(root);
    // oxlint-disable-next-line no-await-in-loop -- a poll
    await delay(pollMs);
  }
}

/** Whether policy programs of any bpffsDir are attached in this network namespace. */
export function isPolicyAttached(): boolean {
  return judgeLinks().some((place) => {
    try {
      return isNetfilterTaken(place);
    } catch (error) {
      // A family or feature that the kernel does not have: loading tells more of it.
      if (error instanceof BpfError) return false;
      throw error;
    }
  });
}
