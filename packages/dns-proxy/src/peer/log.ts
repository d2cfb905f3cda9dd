// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Log messages about the other member and about the own sockets, the same for both processes. */

import type { GroupIndex } from '@tandem/core/ids';
import type { Logger } from '@tandem/runtime/log';
import type { TakeoverEvent } from './takeover.ts';

const texts: Readonly<Record<TakeoverEvent, string>> = {
  linked: 'the other member is linked: each holds the listeners of both',
  lost: 'the other member ended: this member answers its queries',
  hung: 'the other member gives no heartbeat: this member answers its queries',
  back: 'the other member gives heartbeats again',
  unread:
    'a listener of the other member cannot be read and will be tried again: what waits in it waits longer',
};

export function logPeer(log: Logger, event: TakeoverEvent, member: GroupIndex): void {
  if (event === 'linked' || event === 'back') {
    log.info(texts[event], { member });
    return;
  }
  log.warn(texts[event], { member });
  if (event === 'unread') return;
  // Each time, where a warning that comes again is counted.
  log.debug('this member answers for the other', { member });
}

export function logIndexTaken(log: Logger, path: string): void {
  log.warn('another process has this member index: standing by until it ends', { lock: path });
}

export function logFenced(log: Logger, ms: number): void {
  log.error('the process that had this member index gave no heartbeat and was killed', {
    silentMs: ms,
  });
}

export function logUnfenced(log: Logger, reason: string): void {
  log.warn('a standby process cannot kill this one if it hangs', { reason });
}

export function logListeners(log: Logger, port: number, problem: string): void {
  if (problem === '') log.info('listeners are open', { port });
  else log.error('listeners cannot be opened and will be tried again', { port, reason: problem });
}
