// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which socket a query goes by that is asked again, and why. */

import type { UpstreamSocket } from './upstream-sockets.ts';

/** `direct`: a socket past redirects. `answered`: the one that was answered last. `any`: as for a new query. */
export type WayAgain = 'direct' | 'answered' | 'any';

/** Facts of the socket that the query waits on. */
export type StaleSocket = Pick<
  UpstreamSocket,
  'answeredMs' | 'hasFailed' | 'isDirect' | 'isDropped' | 'silentSinceMs'
>;

/**
 * The first row that fits:
 *
 * | server, and the socket that the query waits on | way | because |
 * |---|---|---|
 * | the server never answered | any | it is down, or all sockets are alike |
 * | subject to redirects; not new and dropped by netfilter while another was answered | direct | a redirect to a pod that is gone takes all sockets but those past it, also one that was answered just before |
 * | no socket of the server was answered | any | none is better |
 * | failed, or another was answered since it is silent | answered | conntrack may lead the port of a new socket to the pod that is gone, and has no room for a new one when its table is full |
 * | silent, as all others are | any | the server may just be slow |
 *
 * @param stale undefined: it is closed by now
 * @param proven the socket of the server that was answered last, if one was
 */
export function wayAgain(
  serverAnsweredMs: number,
  stale: StaleSocket | undefined,
  proven: Pick<UpstreamSocket, 'answeredMs'> | undefined,
): WayAgain {
  if (serverAnsweredMs !== 0 && stale?.isDirect === false) {
    const isNewAndDropped = stale.isDropped && stale.answeredMs === 0;
    if (!isNewAndDropped || proven === undefined) return 'direct';
  }
  if (proven === undefined) return 'any';
  const isSilentSinceThen = proven.answeredMs <= (stale?.silentSinceMs ?? 0);
  return stale?.hasFailed === true || !isSilentSinceThen ? 'answered' : 'any';
}
