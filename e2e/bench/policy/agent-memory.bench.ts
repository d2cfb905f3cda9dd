// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Resident memory of the agent as it runs in a pod, in a large cluster: built, with its DNS worker, its BPF maps and its watches.
 * The objects come from an API server of the tests' own. `policy.bench.ts` has the times, and the memory of the compiler alone.
 */

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { serviceAccountDirectory } from '@tandem/kube/endpoint';
import { enumOption, intOption } from '@tandem/runtime/config-option';
import { runTool, type ToolSpec } from '@tandem/runtime/tool';
import { createNode } from '@tandem/testing/netns';
import { waitFor } from '@tandem/testing/wait';
import { KubeApi, kubeApiPort } from '../../kit/kube-api.ts';
import { TandemNode } from '../../kit/tandem-node.ts';
import { journalKiB } from '../cpu.ts';
import { clusterSizes, largeCluster, localNode, remotePod, sizeNames } from './large-cluster.ts';

const startTimeoutMs = 300_000;
/** Longer than the agent waits for quiet before it gives memory back (quiet-garbage.ts). */
const quietMs = 30_000;
const changesPerSecond = 100;

interface Options {
  readonly size: (typeof sizeNames)[number];
  readonly seconds: number;
}

const tool: ToolSpec<Options> = {
  program: 'node e2e/bench/policy/agent-memory.bench.ts',
  description: 'Resident memory of a whole agent in a large cluster.',
  options: {
    size: enumOption({
      description: 'of the cluster',
      ...{ values: sizeNames, default: 'tenth' },
    }),
    seconds: intOption({
      description: `of ${changesPerSecond} changes of pods a second`,
      ...{ default: 60, min: 0, max: 3600 },
    }),
  },
};

process.exitCode = await runTool(tool, async ({ size: name, seconds }) => {
  const size = clusterSizes[name];
  if (existsSync(serviceAccountDirectory)) {
    throw new Error(`${serviceAccountDirectory} is there: this is a pod, or a run that was killed`);
  }
  await using api = await KubeApi.start();
  for (const { raw } of largeCluster(size)) api.put(raw);
  await using node = await createNode({
    pods: [{ name: 'client' }],
    services: [],
    kubeProxy: 'iptables',
  });
  await api.connect(node);
  mkdirSync(serviceAccountDirectory, { recursive: true });
  try {
    writeFileSync(join(serviceAccountDirectory, 'token'), 'test');
    writeFileSync(join(serviceAccountDirectory, 'ca.crt'), api.server.ca);
    const tandem = await TandemNode.create(node, {
      agentOptions: { source: 'kubernetes', 'node-name': localNode },
      environment: () => ({
        KUBERNETES_SERVICE_HOST: '127.0.0.1',
        KUBERNETES_SERVICE_PORT: `${kubeApiPort}`,
      }),
    });
    const { pid } = await tandem.startProcess('agent');
    await tandem.waitForMembers(['agent'], startTimeoutMs);
    await delay(quietMs);
    say(`${name}, after the start`, pid);
    const lives = new Map<number, number>();
    for (let made = 0; made < seconds * changesPerSecond; made++) {
      const i = (made * 7919) % size.remotePods;
      const life = lives.get(i) ?? 0;
      lives.set(i, life + 1);
      api.remove(remotePod(i, life, size).raw);
      api.put(remotePod(i, life + 1, size).raw);
      if (made % 10 === 9) await delay(10_000 / changesPerSecond);
    }
    say(`${name}, after ${seconds} s of changes`, pid);
    await delay(quietMs);
    say(`${name}, ${quietMs / 1000} s later`, pid);
    await waitFor(() => tandem.isAlive('agent'), { what: 'the agent to live' });
    return 0;
  } finally {
    rmSync(serviceAccountDirectory, { recursive: true, force: true });
  }
});
process.exit();

function say(what: string, pid: number): void {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kib = (field: string): number =>
    Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1] ?? 0);
  const mib = (value: number): string => (value / 1024).toFixed(0);
  const journal = journalKiB(pid);
  console.log(
    `${what}: ${mib(kib('VmRSS') - journal)} MiB resident, ${mib(kib('RssAnon'))} of it anonymous; ` +
      `journal ${mib(journal)} MiB more; peak ${mib(kib('VmHWM') - journal)} MiB`,
  );
}
