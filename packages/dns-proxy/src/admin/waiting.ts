// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Processes that wait for the end of another one of their kind: each index has one holder. */

import { agentMember, proxyMember } from '@tandem/datapath/member';
import { pinPaths } from '@tandem/datapath/paths';
import { PathLock } from '@tandem/dns-sockets/lock';
import type { Degradation } from './degradations.ts';

const kinds = [
  { index: agentMember, name: 'agent', what: 'loads, attaches and writes' },
  { index: proxyMember, name: 'DNS proxy', what: 'joins the group' },
] as const;

/** `pinRoot`: the node's directory in a bpffs. */
export function waitingProcesses(pinRoot: string): readonly Degradation[] {
  return kinds.flatMap(({ index, name, what }) => {
    if (!isHeld(pinPaths(pinRoot).waiting(index))) return [];
    return [
      {
        code: index === agentMember ? 'agent-waiting' : 'proxy-waiting',
        message: `a second ${name} waits for the first one's end: it ${what} only then`,
        fix: `none during an upgrade; else stop one of them. If the first one hangs, the second ends it within seconds, unless the log of the first says why it cannot`,
      },
    ];
  });
}

/** Whoever waits holds the lock of a directory beside the index's own. */
function isHeld(path: string): boolean {
  try {
    return PathLock.isHeld(path);
  } catch {
    return false; // of before there was such a directory
  }
}
