// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Privileges that the chart and the systemd units give the processes of a node, for tests that start these themselves. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { agentCapabilities } from '@tandem/agent/privileges';
import { proxyCapabilities } from '@tandem/dns-proxy/drop-root';
import { type Capability, capabilitySet } from '@tandem/dns-sockets/privileges';

export interface Privileges {
  readonly uid: number;
  readonly gid: number;
  /** Its effective, permitted and bounding capabilities, which are equal. */
  readonly capabilities: readonly Capability[];
  /** As ambient capabilities. */
  readonly isAmbient: boolean;
}

export const proxyUid = 65_532;

export const shippedPrivileges: Readonly<Record<'agent' | 'dns-proxy', Privileges>> = {
  agent: { uid: 0, gid: 0, capabilities: agentCapabilities, isAmbient: false },
  'dns-proxy': {
    uid: proxyUid,
    gid: proxyUid,
    capabilities: proxyCapabilities,
    isAmbient: true,
  },
};

/**
 * Arguments of setpriv(1) that start a command with these privileges and no way to get more. The process that runs it ends with its
 * parent: the kernel forgets that of one whose uid changes.
 */
export function setprivArguments({ uid, gid, capabilities, isAmbient }: Privileges): string[] {
  const set = ['-all', ...capabilities.map((name) => `+${name.toLowerCase()}`)].join(',');
  return [
    '--no-new-privs',
    `--bounding-set=${set}`,
    ...(uid === 0 ? [] : [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups']),
    ...(isAmbient ? [`--inh-caps=${set}`, `--ambient-caps=${set}`] : ['--inh-caps=-all']),
    ...['--pdeathsig', 'KILL'],
  ];
}

/** Lines of /proc/PID/status of a process that has exactly these, by their name. */
export function statusOf({
  uid,
  gid,
  capabilities,
  isAmbient,
}: Privileges): Readonly<Record<string, string>> {
  const hex = (names: readonly Capability[]): string =>
    capabilitySet(names).toString(16).padStart(16, '0');
  const set = hex(capabilities);
  const ids = (id: number): string => Array.from({ length: 4 }, () => id).join('\t');
  return {
    ...{ CapEff: set, CapPrm: set, CapBnd: set, CapAmb: isAmbient ? set : hex([]) },
    ...{ NoNewPrivs: '1', Uid: ids(uid), Gid: ids(gid) },
  };
}

/** In each of its threads. */
export function assertPrivileges(pid: number, privileges: Privileges): void {
  const wanted = statusOf(privileges);
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8');
    const found = Object.keys(wanted).map((name) => [
      name,
      new RegExp(`^${name}:(.*)$`, 'm').exec(status)?.[1]?.trim(),
    ]);
    assert.deepEqual(Object.fromEntries(found), wanted, `thread ${thread} of ${pid}`);
  }
}
