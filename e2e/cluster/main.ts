// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** ./run cluster: a Kubernetes of one to three nodes, made of namespaces of this machine. */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { boolOption, enumOption, intOption, stringOption } from '@tandem/runtime/config-option';
import { nearestName } from '@tandem/runtime/nearest-name';
import { runTool, type ToolSpec, toolHelp, UsageError } from '@tandem/runtime/tool';
import { type ConformanceOptions, conformance } from './conformance.ts';
import { suiteNames, suites } from './conformance-suites.ts';
import { demo } from './demo.ts';
import { down } from './down.ts';
import { helmPrograms } from './kubectl.ts';
import { Layout } from './layout.ts';
import { withLock } from './lock.ts';
import { type ClusterArguments, clusterConfig, clusterOptions } from './options.ts';
import { buildPrograms } from './programs.ts';
import { Progress } from './progress.ts';
import { readStatus, statusText } from './status.ts';
import { runTrial, type TrialOptions, trialNames } from './trials/main.ts';
import { anyUp, programsOf, up } from './up.ts';

const exitNoCluster = 3;
/** A node of the bed has addresses for so many, beside CoreDNS and those whom no policy holds. */
const podsMax = 250;
const minutesMax = 600;
const seedMax = 2 ** 32 - 1;
const roundsMax = 100;
/** Programs that the tests of the chart and of the workflows run. */
const chartPrograms = [...helmPrograms, 'actionlint', 'registry'] as const;
const commandNames = [
  ...['up', 'build', 'down', 'demo', 'conformance', 'trial', 'status', 'kubectl', 'helm', 'help'],
];
const passedOn = ['kubectl', 'helm'] as const;

interface Arguments extends ClusterArguments, TrialOptions, ConformanceOptions {
  readonly output: 'text' | 'json';
}

const commandsHelp = `  up              bring a cluster up; builds Kubernetes first, once, which takes many minutes
  build           only what up and demo would build
  down            take it down: processes, namespaces, cgroups, disks; programs stay in the cache
  demo            step by step: Tandem installed by Helm, names, denials, all agents of all nodes down at once;
                  brings the cluster up if none is; exit code 0 when each step held
  conformance     a --suite of upstream against Tandem, on the cluster that is up or on a new one: Kubernetes' own
                  NetworkPolicy specs, or the conformance suite of ClusterNetworkPolicy; exit code 0 when each passed
  trial NAME      Tandem under one of these, judged by captures; exit code 0 when each step held:
                    burst     --pods at once on one node
                    gate      what may go wrong with the CNI gate, and an uninstallation
                    reboot    a node loses its power, then again with an agent that cannot start
                    sources   who it is that a pod is reached by, and which entities that is
                    tiers     ClusterNetworkPolicy: rules of both tiers, and a NetworkPolicy between them
                    families  policy over IPv4 and IPv6; needs --dual-stack
                    api-cut   packets to the API server are lost for --minutes
                    churn     pods, labels, namespaces, policies and services change for --minutes
                    upgrade   both DaemonSets to another version and back, --rounds times, then the ways it goes wrong
                    upgrade-from  from the commit --from to this checkout by helm upgrade, and back by helm rollback
                    local-dns a cache on each node behind a CiliumLocalRedirectPolicy comes, restarts and goes
                    controller  taints, conditions, events; the leader's pod is deleted
                    monitoring  a Prometheus scrapes the nodes: metrics, alerts, expressions of the dashboard, an upgrade
                    uninstall  install and uninstall by Helm 3 and 4; each node is compared with its former state
                    api-away  no API server for --minutes, both processes restarted meanwhile
  status          what of it runs; exit code 0 when it is ready, 1 when not, 3 when there is none
  kubectl ARGS    kubectl of its version, as its administrator
  helm ARGS       helm 3, likewise
`;

const clusterTool: ToolSpec<Arguments> = {
  program: './run cluster',
  description: 'A Kubernetes of one to three nodes, made of network namespaces of this machine.',
  words: { usage: 'COMMAND', max: 2 },
  before: commandsHelp,
  options: {
    ...clusterOptions,
    output: enumOption({
      ...{ short: 'o', placeholder: 'FORMAT', values: ['text', 'json'] as const, default: 'text' },
      description: 'of status',
    }),
    suite: enumOption({
      ...{ placeholder: 'NAME', values: suiteNames, default: 'network-policy' },
      description: 'of conformance',
    }),
    focus: stringOption({ description: 'of conformance: only specs that match', default: '' }),
    pods: intOption({ description: 'of trial burst', default: 250, min: 1, max: podsMax }),
    minutes: intOption({
      description: 'of trials api-away, api-cut and churn',
      ...{ default: 10, min: 1, max: minutesMax },
    }),
    seed: intOption({ description: 'of trial churn', default: 1, min: 1, max: seedMax }),
    from: stringOption({
      placeholder: 'COMMIT',
      description: 'of trial upgrade-from: it is built beside, once',
      default: '',
    }),
    rounds: intOption({
      description: 'of trials upgrade and upgrade-from',
      default: 3,
      min: 1,
      max: roundsMax,
    }),
    save: boolOption({
      description: 'of conformance and trial: the result goes to docs/results',
      default: false,
    }),
  },
  after: `Programs and images: \${XDG_CACHE_HOME:-~/.cache}/tandem/cluster. Clusters: /var/lib/tandem-cluster.
`,
};

async function main(
  values: Arguments,
  [command = 'help', ...rest]: readonly string[],
): Promise<number> {
  const config = clusterConfig(values);
  if (command === 'help') {
    process.stdout.write(toolHelp(clusterTool));
    return 0;
  }
  const wanted = command === 'trial' ? 1 : 0;
  if (rest.length > wanted) throw new UsageError(`${command} takes no ${rest[wanted]}`);
  const layout = new Layout(config.name);
  switch (command) {
    case 'up':
      await withLock(layout, () => up(layout, config, new Progress()));
      console.log(howToUse(layout));
      return 0;
    case 'build':
      await buildPrograms([...programsOf(config), ...chartPrograms], new Progress());
      return 0;
    case 'demo':
      return withLock(layout, async () => {
        const progress = new Progress();
        const chosen = await anyUp(layout, config, progress);
        await buildPrograms(['helm'], progress);
        return demo(layout, chosen);
      });
    case 'conformance':
      return withLock(layout, async () => {
        const progress = new Progress();
        const chosen = await anyUp(layout, config, progress);
        await buildPrograms(['helm', suites[values.suite].program], progress);
        return conformance(layout, chosen, values, progress);
      });
    case 'trial': {
      const name = trialNames.find((candidate) => candidate === rest[0]);
      if (name === undefined) {
        throw new UsageError(`trial ${rest[0] ?? ''}: one of ${trialNames.join(', ')}`);
      }
      if (name === 'upgrade-from' && values.from === '') {
        throw new UsageError('trial upgrade-from needs --from COMMIT');
      }
      return withLock(layout, async () => {
        const progress = new Progress();
        const chosen = await anyUp(layout, config, progress);
        await buildPrograms(name === 'uninstall' ? helmPrograms : ['helm'], progress);
        return runTrial(layout, chosen, name, values);
      });
    }
    case 'down':
      await withLock(layout, () => down(layout));
      return 0;
    case 'status': {
      const status = await readStatus(layout);
      console.log(values.output === 'json' ? JSON.stringify(status, null, 2) : statusText(status));
      return status.config === null ? exitNoCluster : status.isReady ? 0 : 1;
    }
    default:
      throw new UsageError(
        `unknown command ${command}; the nearest is ${nearestName(command, commandNames)}`,
      );
  }
}

/** `--name` may come first; everything else is the tool's. */
async function passOn(tool: (typeof passedOn)[number], args: readonly string[]): Promise<number> {
  const [name, rest] = args[0] === '--name' ? [args[1] ?? '', args.slice(2)] : ['tandem', args];
  const wrapper = join(new Layout(name).bin, tool);
  if (!existsSync(wrapper)) {
    process.stderr.write(`cluster: there is no cluster ${name}: ./run cluster up\n`);
    return 1;
  }
  if (tool === 'helm') await buildPrograms(['helm'], new Progress());
  return spawnSync(wrapper, rest, { stdio: 'inherit' }).status ?? 1;
}

const howToUse = (layout: Layout): string => `
Use it:
  ./run cluster ${layout.name === 'tandem' ? 'kubectl' : `kubectl --name ${layout.name}`} get pods --all-namespaces
  export PATH=${layout.bin}:$PATH    # kubectl and helm of this cluster, from any directory
`;

const [first, ...others] = process.argv.slice(2);
const passed = passedOn.find((name) => name === first);
process.exitCode =
  passed === undefined ? await runTool(clusterTool, main) : await passOn(passed, others);
