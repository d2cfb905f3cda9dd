// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Processes that wait for the end of another one of their kind: each index has one holder. */

import { agentMember, proxyMember } from '@tandem/datapath/member';
import { pinPaths } from '@tandem/datapath/paths';
import { PathLock } from '@tandem/dns-sockets/lock';
import { type Degradation, degradation } from './degradation.ts';

const kinds = [
  { index: agentMember, code: 'agent-waiting' },
  { index: proxyMember, code: 'proxy-waiting' },
] as const;

/** `pinRoot`: the node's directory in a bpffs. */
export function waitingProcesses(pinRoot: string): readonly Degradation[] {
  return kinds.flatMap(({ index, code }) =>
    isHeld(pinPaths(pinRoot).waiting(index)) ? [degradation(code)] : [],
  );
}

/** A standby process holds the lock of a directory beside the index's own. */
function isHeld(path: string): boolean {
  try {
    return PathLock.isHeld(path);
  } catch {
    return false; // of before there was such a directory
  }
}
