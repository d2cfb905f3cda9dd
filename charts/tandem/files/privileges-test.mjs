// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// `helm test`: what agent and DNS proxy of a node may do, as its kernel says it. EXPECTED: a JSON object of programs, each with uid and
// names of capabilities.

import { readdirSync, readFileSync } from 'node:fs';

// Source: include/uapi/linux/capability.h
const numbers = {
  CHOWN: 0,
  DAC_OVERRIDE: 1,
  FOWNER: 3,
  NET_ADMIN: 12,
  NET_RAW: 13,
  PERFMON: 38,
  BPF: 39,
};
const expected = JSON.parse(process.env.EXPECTED ?? '{}');

const read = (path) => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // a process that has ended
  }
};
const processes = readdirSync('/proc').filter((entry) => /^\d+$/.test(entry));
const programOf = (pid) =>
  /^\/bin\/node\0.*\/opt\/tandem\/dist\/([a-z-]+)\.js\0/s.exec(read(`/proc/${pid}/cmdline`))?.[1];

let failed = 0;
for (const [program, { uid, capabilities }] of Object.entries(expected)) {
  const pids = processes.filter((pid) => programOf(pid) === program);
  const set = capabilities
    .reduce((bits, name) => bits | (1n << BigInt(numbers[name])), 0n)
    .toString(16)
    .padStart(16, '0');
  const wanted = { Uid: `${uid}`, CapEff: set, CapBnd: set, NoNewPrivs: '1', Seccomp: '2' };
  const wrong = pids.flatMap((pid) => {
    const status = read(`/proc/${pid}/status`);
    const root = read(`/proc/${pid}/mountinfo`)
      .split('\n')
      .find((line) => line.split(' ')[4] === '/');
    const seen = (name) => new RegExp(`^${name}:\\s+(\\S+)`, 'm').exec(status)?.[1] ?? 'unknown';
    return [
      ...Object.entries(wanted)
        .filter(([name, value]) => seen(name) !== value)
        .map(([name, value]) => `${name} ${seen(name)} instead of ${value}`),
      ...(/ ro[, ]/.test(root ?? '') ? [] : ['its root can be written']),
    ];
  });
  if (pids.length === 0) wrong.push('no process of it on this node');
  if (wrong.length > 0) failed += 1;
  console.log(
    `${wrong.length === 0 ? 'ok     ' : 'FAILED '} ${program}: uid ${uid}, ${capabilities.join(', ')} ${wrong.join('; ')}`.trimEnd(),
  );
}
process.exitCode = failed === 0 ? 0 : 1;
