// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * "Run it on a node" of the README, word for word: both processes started by root, in a node of namespaces
 * with directories of its own and a bpffs as systemd mounts it. Status is healthy, and the DNS proxy has
 * given up all that it does not need, in every thread.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { proxyCapabilities } from '@tandem/dns-proxy/drop-root';
import { capabilitySet } from '@tandem/dns-sockets/privileges';
import { ownPrefix } from '@tandem/testing/namespace';
import { createNode, type TestNode } from '@tandem/testing/netns';
import { type RunResult, tryRun } from '@tandem/testing/process';
import { manifestOf, nodeName } from '../kit/objects.ts';
import { proxyUid } from '../kit/shipped-privileges.ts';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const boundMs = 60_000;
const searchSuffix = 'corp.example';
/** Denied names: below a suffix of the node's search list, and elsewhere. */
const searched = `n-1.allowed.test.${searchSuffix}`;
const elsewhere = 'n-1.denied.test';
/** The pod may ask every server for what it may ask; for other names none is asked. */
const anyServer = '198.51.100.53';

/** The commands of the section, without the build. */
function readmeCommands(): { setting: string; agent: string; proxy: string; status: string } {
  const readme = readFileSync(join(checkout, 'README.md'), 'utf8');
  const section = /\n## Run it on a node\n[\s\S]*?```\n([\s\S]*?)```/.exec(readme)?.[1] ?? '';
  const [setup = '', agent = '', proxy = '', status = ''] = section.trim().split('\n');
  assert.match(setup, /^\.\/run setup && export PATH=/);
  assert.match(status, /status$/);
  return { setting: setup.replace('./run setup && ', ''), agent, proxy, status };
}

/** Setup that the README does not mention: the machine's own directories are not touched. */
const privateNode = [
  'set -eu',
  // Before /run is another one.
  'exec 9< "$POD_NETNS"',
  `hostname ${nodeName}`,
  'mount --make-rprivate /',
  'mount -t tmpfs tmpfs "$WORK"',
  'mkdir "$WORK/upper" "$WORK/work"',
  'mount -t overlay -o "lowerdir=/etc,upperdir=$WORK/upper,workdir=$WORK/work" overlay /etc',
  'rm -f /etc/resolv.conf',
  `echo search ${searchSuffix} > /etc/resolv.conf`,
  'for directory in /run /var/lib; do mount -t tmpfs -o mode=755 tmpfs $directory; done',
  'mount -t bpf -o mode=700 bpf /sys/fs/bpf',
  'mount --bind "$CHECKOUT" /opt',
  'mkdir -p /etc/tandem/objects',
  'printf %s "$OBJECTS" > /etc/tandem/objects/all.yaml',
  'cd /opt',
];

/** Once a second, because a start of the program takes a third of a second of CPU time. */
const untilHealthy = (status: string): string =>
  `for try in $(seq 20); do if ${status} > /run/status; then break; fi; sleep 1; done`;

const showProxy = [
  'for process in /proc/[0-9]*; do',
  '  if tr "\\0" " " < $process/cmdline | grep -q "[d]ns-proxy/dist/main.js"; then',
  '    cat $process/task/*/status; fi; done',
];

/** `name: RCODE` of a denied name, from the pod, whose namespace is open as descriptor 9; often, so that each process is asked. */
const askDenied = (name: string): readonly string[] => [
  'for try in $(seq 8); do',
  `  nsenter --net=/proc/self/fd/9 dig +noall +comments @${anyServer} ${name} A |`,
  `    sed -n 's/.*status: \\([A-Z]*\\),.*/${name}: \\1/p'; done`,
];

async function inNode(node: TestNode, script: readonly string[]): Promise<RunResult> {
  const work = mkdtempSync(join(tmpdir(), `${ownPrefix}0-readme-`));
  try {
    const path = join(work, 'script');
    writeFileSync(path, [...privateNode, ...script].join('\n'));
    const own = ['--mount', '--uts', '--pid', '--fork', '--kill-child', '--mount-proc'];
    return await tryRun(...node.node.enter('unshare', [...own, 'bash', path]), {
      timeoutMs: boundMs,
      env: {
        ...process.env,
        WORK: work,
        CHECKOUT: checkout,
        OBJECTS: manifestOf(node),
        POD_NETNS: (node.pods[0]?.namespace ?? node.node).path,
      },
    });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

for (const { order, isProxyFirst, umask } of [
  { order: 'in the order of the README', isProxyFirst: false, umask: '022' },
  { order: 'the proxy first', isProxyFirst: true, umask: '022' },
  { order: 'under umask 077', isProxyFirst: false, umask: '077' },
]) {
  test(`the commands of the README, ${order}: healthy, and the proxy can do no more than it must`, async () => {
    await using node = await createNode({ pods: [{ name: 'client' }] });
    const { setting, agent, proxy, status } = readmeCommands();
    const processes = [`${agent} 2> /run/agent.log &`, `${proxy} 2> /run/proxy.log &`];
    const { stdout, stderr } = await inNode(node, [
      setting,
      `umask ${umask}`,
      ...(isProxyFirst ? processes.toReversed() : processes),
      untilHealthy(status),
      `${status} && code=0 || code=$?`,
      'echo "exit code $code"',
      ...askDenied(searched),
      ...askDenied(elsewhere),
      'cat /run/agent.log /run/proxy.log >&2',
      ...showProxy,
    ]);
    assert.match(stdout, /^exit code 0$/m, `${stdout}\n${stderr}`);
    assert.match(stdout, /Health: +HEALTHY/);
    // docs/policy.md, "Denied names": the suffixes are those of the node's resolv.conf, where no option names others.
    const told = new Set(stdout.match(/^\S+: (NXDOMAIN|REFUSED|NOERROR|SERVFAIL)$/gm));
    assert.deepEqual([...told], [`${searched}: NXDOMAIN`, `${elsewhere}: REFUSED`], stderr);
    const values = (name: string): string[] =>
      [...stdout.matchAll(new RegExp(`^${name}:\\s+(.*)$`, 'gm'))].map(([, value]) => value ?? '');
    const wanted = capabilitySet(proxyCapabilities).toString(16).padStart(16, '0');
    for (const set of ['CapEff', 'CapPrm', 'CapBnd', 'CapAmb']) {
      assert.ok(values(set).length > 3, 'a process of several threads');
      assert.deepEqual([...new Set(values(set))], [wanted], set);
    }
    assert.deepEqual([...new Set(values('NoNewPrivs'))], ['1']);
    const ids = Array.from({ length: 4 }, () => proxyUid).join('\t');
    assert.deepEqual([...new Set(values('Uid'))], [ids]);
    assert.deepEqual([...new Set(values('Gid'))], [ids]);
    assert.deepEqual(
      [...new Set(values('Groups').map((groups) => groups.trim()))],
      [`${proxyUid}`],
    );
  });
}

test('a proxy that root starts without the right to become another user says what to grant', async () => {
  await using node = await createNode({ pods: [] });
  const { setting, proxy } = readmeCommands();
  const { stdout, stderr } = await inNode(node, [
    setting,
    `setpriv --bounding-set=-setuid,-bpf ${proxy} && code=0 || code=$?`,
    'echo "exit code $code"',
  ]);
  assert.match(stdout, /^exit code 1$/m);
  assert.match(
    stderr,
    /started by root without CAP_SETUID, CAP_BPF, so it cannot go on as uid 65532: grant them, or start it as uid 65532/,
  );
});

test('a checkout that the uid of the proxy may not read is named', async () => {
  await using node = await createNode({ pods: [] });
  const { setting, proxy } = readmeCommands();
  const { stdout, stderr } = await inNode(node, [
    'mkdir -p /run/closed/tandem',
    'mount --bind "$CHECKOUT" /run/closed/tandem',
    'chmod 700 /run/closed',
    'cd /run/closed/tandem',
    setting,
    `${proxy} && code=0 || code=$?`,
    'echo "exit code $code"',
  ]);
  assert.match(stdout, /^exit code 1$/m);
  assert.match(
    stderr,
    /uid 65532, as which the DNS proxy runs, may not read [^:]*: \/run\/closed is closed to it/,
  );
});
