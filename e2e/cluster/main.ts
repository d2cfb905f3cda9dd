// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** ./run cluster: a Kubernetes of one to three nodes, made of namespaces of this machine. */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type ConformanceOptions, conformance } from './conformance.ts';
import { demo } from './demo.ts';
import { down } from './down.ts';
import { helmPrograms } from './kubectl.ts';
import { type ClusterConfig, Layout } from './layout.ts';
import { withLock } from './lock.ts';
import {
  clusterOptions,
  clusterOptionsHelp,
  count,
  oneOf,
  readConfig,
  UsageError,
} from './options.ts';
import { buildPrograms } from './programs.ts';
import { Progress } from './progress.ts';
import { readStatus, statusText } from './status.ts';
import { runTrial, type TrialOptions, trialNames } from './trials/main.ts';
import { anyUp, programsOf, up } from './up.ts';

const help = `usage: ./run cluster COMMAND [OPTIONS]

  up              bring a cluster up; builds Kubernetes first, once, which takes many minutes
  build           only what up and demo would build
  down            take it down: processes, namespaces, cgroups, disks; programs stay in the cache
  demo            step by step: Tandem installed by Helm, names, denials, all agents of all nodes down at once;
                  brings the cluster up if none is; exit code 0 when each step held
  conformance     Kubernetes' own NetworkPolicy specs against Tandem, on the cluster that is up or on a new one;
                  exit code 0 when each passed
  trial NAME      Tandem under one of these, judged by captures; exit code 0 when each step held:
                    burst     --pods at once on one node
                    gate      what may go wrong with the CNI gate, and an uninstallation
                    reboot    a node loses its power, then again with an agent that cannot start
                    sources   who it is that a pod is reached by, and which entities that is
                    families  policy over IPv4 and IPv6; needs --dual-stack
                    api-cut   packets to the API server are lost for --minutes
                    churn     pods, labels, namespaces, policies and services change for --minutes
                    upgrade   both DaemonSets to another version and back, --rounds times, then the ways it goes wrong
                    local-dns a cache on each node behind a CiliumLocalRedirectPolicy comes, restarts and goes
                    controller  taints, conditions, events; the leader's pod is deleted
                    monitoring  a Prometheus scrapes the nodes: metrics, alerts, expressions of the dashboard, an upgrade
                    uninstall  install and uninstall by Helm 3 and 4; each node is compared with its former state
                    api-away  no API server for --minutes, both processes restarted meanwhile
  status          what of it runs; exit code 0 when it is ready, 1 when not, 3 when there is none
  kubectl ARGS    kubectl of its version, as its administrator
  helm ARGS       helm 3, likewise

${clusterOptionsHelp}  -o, --output FORMAT   of status: text or json
  --focus TEXT          of conformance: only specs that match
  --pods N              of trial burst, default 250
  --minutes N           of trials api-away, api-cut and churn, default 10
  --seed N              of trial churn, default 1
  --rounds N            of trial upgrade, default 3
  --save                of conformance and trial: the result goes to docs/results

Programs and images: \${XDG_CACHE_HOME:-~/.cache}/tandem/cluster. Clusters: /var/lib/tandem-cluster.
`;

const exitUsage = 2;
const exitNoCluster = 3;
/** A node of the bed has addresses for so many, beside CoreDNS and those whom no policy holds. */
const podsMax = 250;
const minutesMax = 600;
const seedMax = 2 ** 32 - 1;
const roundsMax = 100;
/** What the tests of the chart and of the workflows run. */
const chartPrograms = [...helmPrograms, 'actionlint', 'registry'] as const;
const passedOn = ['kubectl', 'helm'] as const;

interface Options {
  readonly config: ClusterConfig;
  readonly isJson: boolean;
  readonly isHelp: boolean;
  readonly conformance: ConformanceOptions;
  readonly trial: TrialOptions;
  /** What is no option. */
  readonly rest: readonly string[];
}

function readOptions(args: readonly string[]): Options {
  const { values, positionals } = parse(args);
  const config = readConfig(values);
  const format = oneOf(['text', 'json'] as const, '--output', values.output);
  const { focus, save } = values;
  return {
    ...{ config, isJson: format === 'json', isHelp: values.help },
    conformance: { focus, save },
    trial: {
      pods: count('--pods', values.pods, podsMax),
      minutes: count('--minutes', values.minutes, minutesMax),
      seed: count('--seed', values.seed, seedMax),
      rounds: count('--rounds', values.rounds, roundsMax),
      save,
    },
    rest: positionals,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        ...clusterOptions,
        output: { type: 'string', short: 'o', default: 'text' },
        focus: { type: 'string', default: '' },
        pods: { type: 'string', default: '250' },
        minutes: { type: 'string', default: '10' },
        seed: { type: 'string', default: '1' },
        rounds: { type: 'string', default: '3' },
        save: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

async function main([command = 'help', ...args]: readonly string[]): Promise<number> {
  const tool = passedOn.find((name) => name === command);
  if (tool !== undefined) return passOn(tool, args);
  const { config, isJson, isHelp, rest, trial, conformance: specs } = readOptions(args);
  if (isHelp || ['help', '-h', '--help'].includes(command)) {
    console.log(help);
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
        await buildPrograms(['helm', 'netpol'], progress);
        return conformance(layout, chosen, specs, progress);
      });
    case 'trial': {
      const name = oneOf(trialNames, 'trial', rest[0] ?? '');
      return withLock(layout, async () => {
        const progress = new Progress();
        const chosen = await anyUp(layout, config, progress);
        await buildPrograms(name === 'uninstall' ? helmPrograms : ['helm'], progress);
        return runTrial(layout, chosen, name, trial);
      });
    }
    case 'down':
      await withLock(layout, () => down(layout));
      return 0;
    case 'status': {
      const status = await readStatus(layout);
      console.log(isJson ? JSON.stringify(status, null, 2) : statusText(status));
      return status.config === null ? exitNoCluster : status.isReady ? 0 : 1;
    }
    default:
      throw new UsageError(`unknown command ${command}`);
  }
}

/** `--name` may come first; everything else is the tool's. */
async function passOn(tool: (typeof passedOn)[number], args: readonly string[]): Promise<number> {
  const [name, rest] = args[0] === '--name' ? [args[1] ?? '', args.slice(2)] : ['tandem', args];
  const wrapper = join(new Layout(name).bin, tool);
  if (!existsSync(wrapper)) throw new Error(`there is no cluster ${name}: ./run cluster up`);
  if (tool === 'helm') await buildPrograms(['helm'], new Progress());
  return spawnSync(wrapper, rest, { stdio: 'inherit' }).status ?? 1;
}

const howToUse = (layout: Layout): string => `
Use it:
  ./run cluster ${layout.name === 'tandem' ? 'kubectl' : `kubectl --name ${layout.name}`} get pods --all-namespaces
  export PATH=${layout.bin}:$PATH    # kubectl and helm of this cluster, from any directory
`;

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(`cluster: ${error instanceof Error ? error.message : String(error)}`);
  if (error instanceof UsageError) console.error(`\n${help}`);
  process.exitCode = error instanceof UsageError ? exitUsage : 1;
}
