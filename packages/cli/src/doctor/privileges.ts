// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What this process may do: the others run under the same limits of the node. */

import { openFilesMin } from '../limits.ts';
import { type Check, type CheckResult, fail, pass, warn } from './check.ts';
import { readCommand, readText } from './system.ts';

/** Source: include/uapi/linux/capability.h. */
const capabilities = { NET_ADMIN: 12, NET_RAW: 13, SYS_ADMIN: 21, PERFMON: 38, BPF: 39 } as const;
const wanted = ['NET_ADMIN', 'NET_RAW', 'PERFMON', 'BPF'] as const;

export const checkPrivileges: Check = async () => [
  checkCapabilities(),
  checkOpenFiles(),
  ...(await checkPrograms()),
];

function checkCapabilities(): CheckResult {
  const uid = process.getuid?.() ?? -1;
  const text = /^CapEff:\s*([0-9a-f]+)$/m.exec(readText('/proc/self/status') ?? '')?.[1];
  const effective = BigInt(`0x${text ?? '0'}`);
  const has = (name: keyof typeof capabilities): boolean =>
    ((effective >> BigInt(capabilities[name])) & 1n) === 1n;
  // CAP_SYS_ADMIN stands for BPF and PERFMON (capabilities(7)).
  const missing = wanted.filter(
    (name) => !has(name) && !(has('SYS_ADMIN') && (name === 'BPF' || name === 'PERFMON')),
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

async function checkPrograms(): Promise<readonly CheckResult[]> {
  const programs = [
    { program: 'ip', args: ['-V'], package: 'iproute2' },
    { program: 'bridge', args: ['-V'], package: 'iproute2' },
    { program: 'nft', args: ['--version'], package: 'nftables' },
  ];
  const results: CheckResult[] = [];
  for (const { program, args, package: name } of programs) {
    const answer = await readCommand(program, args);
    results.push(
      answer.ok
        ? pass(`program-${program}`, answer.value.trim() || 'is there')
        : fail(
            `program-${program}`,
            `the agent needs it: ${answer.error}`,
            `apt-get install ${name}`,
          ),
    );
  }
  return results;
}
