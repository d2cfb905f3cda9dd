// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** guard_port: who may bind port P (rule 11), tried by processes in a cgroup of the test's own. */

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { attachCgroup, type BpfLink } from '@tandem/bpf-loader-node/link';
import { tryRun } from '@tandem/testing/process';
import { Fixture } from './fixture.ts';
import { ownerUid, portP } from './kernel-world.ts';

const fixture = new Fixture();
const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
const cgroupRoot = mounts
  .map((line) => line.split(' '))
  .find((fields) => fields[2] === 'cgroup2')?.[1];
assert.ok(cgroupRoot !== undefined, 'a cgroup2 mount');
const cgroup = `${cgroupRoot}/td-guard-port-${process.pid}`;
const links: BpfLink[] = [];

before(() => {
  mkdirSync(cgroup);
  for (const [name, attachType] of [
    ['guard_port4', 'bind4'],
    ['guard_port6', 'bind6'],
  ] as const) {
    links.push(
      attachCgroup({ program: fixture.object.program(name), cgroupPath: cgroup, attachType }),
    );
  }
});
after(() => {
  for (const link of links) link[Symbol.dispose]();
  rmdirSync(cgroup);
  fixture[Symbol.dispose]();
});

interface Attempt {
  readonly family: 4 | 6;
  readonly type: 'udp' | 'tcp';
  readonly port: number;
  /** The process's uid. */
  readonly uid?: number;
  /** fchown of the socket before bind. */
  readonly socketUid?: number;
  readonly isOtherNamespace?: boolean;
}

/** Perl, which every Debian has, because Node binds before one can change a socket's owner. */
function script(attempt: Attempt): string {
  const domain = attempt.family === 4 ? 'AF_INET' : 'AF_INET6';
  const any =
    attempt.family === 4 ? 'sockaddr_in(PORT, INADDR_ANY)' : 'sockaddr_in6(PORT, "\\0" x 16)';
  return [
    'use Socket;',
    `socket(my $s, ${domain}, ${attempt.type === 'udp' ? 'SOCK_DGRAM' : 'SOCK_STREAM'}, 0) or die "socket: $!";`,
    attempt.socketUid === undefined
      ? ''
      : `chown(${attempt.socketUid}, -1, $s) or die "chown: $!";`,
    attempt.uid === undefined ? '' : `$( = ${attempt.uid}; $< = $> = ${attempt.uid};`,
    attempt.uid === undefined
      ? ''
      : `socket($s, ${domain}, ${attempt.type === 'udp' ? 'SOCK_DGRAM' : 'SOCK_STREAM'}, 0) or die;`,
    `bind($s, ${any.replace('PORT', String(attempt.port))}) or do { print 0 + $!; exit };`,
    'print "bound";',
  ].join(' ');
}

async function bind(attempt: Attempt): Promise<{ answer: string; refused: number }> {
  const refusedBefore = fixture.counters()['BIND_REFUSED'] ?? 0;
  const inCgroup = `echo $$ > ${cgroup}/cgroup.procs && exec "$@"`;
  const perl = ['perl', '-e', script(attempt)];
  const command = attempt.isOtherNamespace === true ? ['unshare', '--net', ...perl] : perl;
  const result = await tryRun('sh', ['-c', inCgroup, 'sh', ...command]);
  assert.equal(result.status, 0, result.stderr);
  return {
    answer: result.stdout,
    refused: (fixture.counters()['BIND_REFUSED'] ?? 0) - refusedBefore,
  };
}

const refused = { answer: '1', refused: 1 }; // EPERM
const bound = { answer: 'bound', refused: 0 };

describe('port P in the namespace of the node', () => {
  for (const family of [4, 6] as const) {
    for (const type of ['udp', 'tcp'] as const) {
      test(`IPv${family} ${type}`, async () => {
        assert.deepEqual(await bind({ family, type, port: portP }), refused, 'root');
        assert.deepEqual(
          await bind({ family, type, port: portP, uid: 1000 }),
          refused,
          'another uid',
        );
        assert.deepEqual(
          await bind({ family, type, port: portP, uid: ownerUid }),
          bound,
          'the owner',
        );
        assert.deepEqual(
          await bind({ family, type, port: portP, socketUid: ownerUid }),
          bound,
          'fchown',
        );
        assert.deepEqual(await bind({ family, type, port: 0 }), bound, 'another port');
        assert.deepEqual(
          await bind({ family, type, port: portP, isOtherNamespace: true }),
          bound,
          'a pod',
        );
      });
    }
  }
});
