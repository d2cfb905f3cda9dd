// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `./run cluster`: a real Kubernetes of several nodes on this machine, in namespaces. */

import { parseArgs } from 'node:util';
import { down, isRunning, readRecord, up } from './cluster.ts';
import { demo } from './demo.ts';
import { kubectl, kubectlCommand } from './kubectl.ts';
import { type ClusterSpec, cniKinds, proxyModes, stateDirectory } from './settings.ts';

const usage = `usage: ./run cluster COMMAND [OPTIONS]

A real Kubernetes on this machine: each node is a set of namespaces with containerd, kubelet, kube-proxy and CNI.
The first time its programs are built by Go (about 10 minutes on 2 CPUs); they are kept in the user's cache.

  up      starts a cluster, after ending one that is there
  down    ends it and removes all of it
  status  whether it runs, its nodes, and how to reach it; exit code 1: it does not run
  demo    step by step: Tandem installed by Helm, names, denials, all agents of all nodes down; up is part of it

  --nodes N           1 to 3; default 2
  --cni KIND          ${cniKinds.join(' or ')}; default ${cniKinds[0]}
  --proxy-mode MODE   of kube-proxy: ${proxyModes.join(' or ')}; default ${proxyModes[1]}
  -o json             status as JSON
`;

const startedMs = performance.now();
const say = (line: string): void => {
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1).padStart(6);
  process.stderr.write(`${seconds} s  ${line}\n`);
};

class UsageError extends Error {}

function oneOf<T extends string>(values: readonly T[], text: string, option: string): T {
  const found = values.find((value) => value === text);
  if (found === undefined) throw new UsageError(`${option} is ${values.join(' or ')}, not ${text}`);
  return found;
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      nodes: { type: 'string', default: '2' },
      cni: { type: 'string', default: cniKinds[0] },
      'proxy-mode': { type: 'string', default: proxyModes[1] },
      output: { type: 'string', short: 'o', default: 'text' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const [command] = positionals;
  if (values.help || command === undefined) {
    process.stdout.write(usage);
    return values.help ? 0 : 2;
  }
  const spec: ClusterSpec = {
    nodes: Number(oneOf(['1', '2', '3'], values.nodes, '--nodes')),
    cni: oneOf(cniKinds, values.cni, '--cni'),
    proxyMode: oneOf(proxyModes, values['proxy-mode'], '--proxy-mode'),
  };
  switch (command) {
    case 'up':
      await up(spec, say);
      process.stdout.write(`kubectl: ${kubectlCommand()}\n`);
      return 0;
    case 'down':
      await down(say);
      return 0;
    case 'status':
      return status(oneOf(['text', 'json'], values.output, '--output') === 'json');
    case 'demo':
      return demo(spec, say);
    default:
      throw new UsageError(`there is no command ${command}`);
  }
}

function status(asJson: boolean): number {
  const record = readRecord();
  const runs = record !== null && isRunning(record);
  if (asJson) {
    const { nodes, cni, proxyMode } = record ?? {};
    const shown = { runs, nodes, cni, proxyMode, kubectl: runs ? kubectlCommand() : undefined };
    process.stdout.write(`${JSON.stringify(shown, null, 2)}\n`);
  } else if (!runs) {
    const hint =
      record === null ? 'there is no cluster' : `not all of it lives, see ${stateDirectory}`;
    process.stdout.write(`${hint}: ./run cluster up starts one\n`);
  } else {
    const text = kubectl('get', 'nodes,pods', '--all-namespaces', '-o', 'wide');
    process.stdout.write(`${text}\nkubectl: ${kubectlCommand()}\n`);
  }
  return runs ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`cluster: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof UsageError || isParseError(error) ? 2 : 1;
}

function isParseError(error: unknown): boolean {
  return (
    error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE')
  );
}
