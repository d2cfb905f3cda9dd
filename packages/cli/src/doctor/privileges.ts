// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Privileges of this process; the other processes run under the same limits of the node. */

import { missingCapabilities } from '@tandem/dns-sockets/privileges';
import { openFilesMin } from '../limits.ts';
import { type Check, type CheckResult, fail, pass, warn } from './check.ts';
import { readCommand, readText } from './system.ts';

/** Capabilities of the agent that a check needs. */
const wanted = ['NET_ADMIN', 'PERFMON', 'BPF'] as const;

export const checkPrivileges: Check = async () => [
  checkCapabilities(),
  checkOpenFiles(),
  await checkNft(),
];

function checkCapabilities(): CheckResult {
  const uid = process.getuid?.() ?? -1;
  // CAP_SYS_ADMIN stands for BPF and PERFMON (capabilities(7)).
  const isAdmin = missingCapabilities(['SYS_ADMIN']).length === 0;
  const missing = missingCapabilities(wanted).filter(
    (name) => !(isAdmin && (name === 'BPF' || name === 'PERFMON')),
  );
  const who = `uid ${uid}`;
  if (missing.length === 0) return pass('capabilities', `${who} with ${wanted.join(', ')}`);
  return fail(
    'capabilities',
    `${who} lacks ${missing.map((name) => `CAP_${name}`).join(', ')}: other checks may fail for that alone`,
    'sudo tandem doctor; in a container: add these capabilities and a seccomp profile that allows bpf(2)',
  );
}

function checkOpenFiles(): CheckResult {
  const limits = readText('/proc/self/limits') ?? '';
  const soft = /^Max open files\s+(\d+|unlimited)/m.exec(limits)?.[1];
  if (soft === undefined) return warn('open-files', 'the limit of open files could not be read');
  if (soft === 'unlimited' || Number(soft) >= openFilesMin) {
    return pass('open-files', `soft limit ${soft}, as inherited here`);
  }
  return warn(
    'open-files',
    `soft limit ${soft}, as inherited here: with many pods and TCP queries sockets may run out`,
    `ulimit -n ${openFilesMin}; for services LimitNOFILE=65536`,
  );
}

/** The one program that the agent cannot do without; others that it reads rules with are named where they are missed. */
async function checkNft(): Promise<CheckResult> {
  const answer = await readCommand('nft', ['--version']);
  return answer.ok
    ? pass('program-nft', answer.value.trim() || 'is there')
    : fail('program-nft', `the agent needs it: ${answer.error}`, 'apt-get install nftables');
}
