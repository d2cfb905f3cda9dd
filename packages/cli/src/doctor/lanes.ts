// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Queues that all pods share: the lanes of datagrams, and the SYN queue of the listeners. */

import { readLaneCounters } from '../node/pins.ts';
import {
  type Check,
  type CheckResult,
  type DoctorContext,
  info,
  pass,
  skip,
  warn,
} from './check.ts';
import { readSysctl } from './system.ts';

export const checkLanes: Check = (context) => [checkDropped(context), checkSynCookies()];

function checkDropped({ settings, isPreflight }: DoctorContext): CheckResult {
  const check = 'lanes';
  if (isPreflight) return skip(check, 'before Tandem runs');
  const counters = readLaneCounters(settings.bpffsDir);
  if (!counters.ok) return skip(check, counters.error);
  const { selected, selectedHeavy, queriesRefused, connectionsRefused } = counters.value;
  const why = `${selected} packets of pods were given to members, ${selectedHeavy} of them in the heavy lane`;
  if (queriesRefused + connectionsRefused === 0) return pass(check, why);
  return info(
    check,
    `${why}; ${queriesRefused} datagrams and ${connectionsRefused} SYNs over the rate of their pod were dropped`,
    '`tandem status` names the pods that ask much now, `tandem observe --type drop` those whose packets are dropped',
  );
}

function checkSynCookies(): CheckResult {
  const check = 'syn-cookies';
  const sysctl = 'net.ipv4.tcp_syncookies';
  const value = readSysctl(sysctl);
  if (value === null) return warn(check, `${sysctl} could not be read`);
  return value === '0'
    ? warn(
        check,
        `${sysctl} is 0: pods that open connections and finish no handshake can keep others from DNS over TCP`,
        `sysctl -w ${sysctl}=1`,
      )
    : pass(check, `${sysctl} is ${value}: a full SYN queue refuses nobody`);
}
