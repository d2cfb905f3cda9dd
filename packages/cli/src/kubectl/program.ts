// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `kubectl tandem`: what `tandem` says of a node, of all nodes of a cluster. */

import { version } from '@tandem/dns-proxy/version';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { secondsUpTo } from '../command-options.ts';
import { addNotes, configured } from '../commander.ts';
import { addCompletion, completeArgument } from '../completion.ts';
import { exitCodeOf, printError } from '../errors.ts';
import { type ExitCode, exitCode } from '../exit-codes.ts';
import { codeNames } from '../explain/catalogue.ts';
import { explain, explainSummary } from '../explain/explain.ts';
import { Printer } from '../output/printer.ts';
import type { CliWorld } from '../program.ts';
import { checks } from './connectivity/checks.ts';
import { type ConnectivityOptions, runConnectivity } from './connectivity/run.ts';
import type { PluginContext } from './context.ts';
import { Kubectl } from './kubectl.ts';
import { nodeTimeoutMs, timeoutSecondsMax } from './limits.ts';
import { runNode } from './node-command.ts';
import { runPolicyValidate } from './policy-command.ts';
import { runStatus } from './status-command.ts';
import { runSysdump } from './sysdump.ts';

const program = 'kubectl tandem';

const exitCodeHelp = [
  'Exit codes:',
  '  0  every node is healthy; the command is done',
  '  1  a node is degraded, cannot be asked, or has no pod of Tandem; a part failed',
  '  2  wrong usage, or no Tandem in the cluster',
  '  3  a node serves no DNS',
].join('\n');

/** Runs one command line; never throws for what a user can cause. */
export async function runPlugin(world: CliWorld): Promise<ExitCode> {
  const out = new Printer(world.stdout, world.env);
  const notes = new Printer(world.stderr, world.env);
  let code: ExitCode = exitCode.ok;
  const root = createProgram(out, notes, world, (ended) => {
    code = ended;
  });
  try {
    await root.parseAsync([...world.argv], { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCode.ok : exitCode.usage;
    return exitCodeOf(printError(program, error, notes));
  }
}

function createProgram(
  out: Printer,
  notes: Printer,
  world: CliWorld,
  end: (code: ExitCode) => void,
): Command {
  const root = configured(new Command(program), out, notes)
    .description('Tandem on all nodes of a cluster, asked through kubectl.')
    .version(version, '--version', 'version of this program')
    .addOption(
      new Option('-o, --output <format>', 'output format')
        .choices(['table', 'json'])
        .default('table'),
    )
    .option('--kubeconfig <file>', 'kubeconfig file that kubectl uses')
    .option('--context <name>', 'context of the kubeconfig that kubectl uses')
    .option('--node <name>', 'only this node; may be given several times', collect)
    .addOption(
      new Option('--timeout <duration>', 'time limit for the answer of one node')
        .argParser(secondsUpTo(timeoutSecondsMax))
        .default(nodeTimeoutMs / 1000, `${nodeTimeoutMs / 1000}s`),
    );
  addNotes(root, exitCodeHelp);
  const contextOf = (command: Command): PluginContext => {
    const options = command.optsWithGlobals<Readonly<Record<string, unknown>>>();
    const flags = ['kubeconfig', 'context'].flatMap((name) =>
      typeof options[name] === 'string' ? [`--${name}=${options[name]}`] : [],
    );
    const { signal, nowMs } = world;
    return {
      kubectl: new Kubectl({ flags, timeoutMs: Number(options['timeout']) * 1000, signal }),
      ...{ out, notes, signal, nowMs },
      wantsJson: options['output'] === 'json',
      nodes: (options['node'] ?? []) as readonly string[],
    };
  };
  root
    .command('status')
    .description('show the health of every node: both members, policy, degradations')
    .action(async (_options, command: Command) => end(await runStatus(contextOf(command))));
  root
    .command('node')
    .description(
      'run a command of tandem on one node: kubectl tandem node NODE -- fqdn list --name a.example.com',
    )
    .argument('<node>', 'name of the node')
    .argument('<command...>', 'command of tandem with its options')
    .action(async (node: string, args: string[], _options, command: Command) =>
      end(await runNode(contextOf(command), node, args)),
    );
  root
    .command('sysdump')
    .description(
      'collect status, doctor, lists, events, logs and objects of all nodes in a directory',
    )
    .option(
      '--directory <path>',
      'output directory; default: tandem-sysdump-TIME in the working directory',
    )
    .option(
      '--redact',
      'replace addresses and names of pods, namespaces, nodes and DNS by placeholders',
    )
    .action(async (options: Readonly<Record<string, unknown>>, command: Command) =>
      end(
        await runSysdump(contextOf(command), {
          directory: options['directory'] as string | undefined,
          isRedacted: options['redact'] === true,
        }),
      ),
    );
  root
    .command('policy')
    .description('check policies')
    .command('validate')
    .description(
      'check the policies of the cluster, or files beside the objects of the cluster, with the code of the agent',
    )
    .option(
      '-f, --file <path>',
      'a YAML or JSON file, a directory of them, or - for standard input, as if they were applied; may be given several times',
      collectPath,
    )
    .option('-R, --recursive', 'also the directories below a directory')
    .option('--strict', 'warnings are errors: exit with 1')
    .action(async (options: Readonly<Record<string, unknown>>, command: Command) =>
      end(
        await runPolicyValidate(contextOf(command), {
          files: (options['file'] ?? []) as readonly string[],
          isRecursive: options['recursive'] === true,
          isStrict: options['strict'] === true,
        }),
      ),
    );
  const connectivity = root
    .command('connectivity')
    .description('test whether policy is enforced on this cluster')
    .command('test')
    .description(
      'make a server and two clients in a namespace of their own, and try policies on them',
    )
    .option('--test <name>', 'only this test; may be given several times', collect)
    .option(
      '--namespace <name>',
      'namespace that is made for the test and deleted at its end',
      'tandem-connectivity',
    )
    .addOption(
      new Option(
        '--external <name:port>',
        'host outside of the cluster that accepts TCP connections',
      )
        .argParser(readExternal)
        .default({ name: 'example.com', port: 443 }, 'example.com:443'),
    )
    .option('--junit <file>', 'also write the results as JUnit XML')
    .option('--keep', 'keep the namespace')
    .action(async (options: Readonly<Record<string, unknown>>, command: Command) =>
      end(
        await runConnectivity(contextOf(command), {
          tests: (options['test'] ?? []) as readonly string[],
          namespace: String(options['namespace']),
          external: options['external'] as ConnectivityOptions['external'],
          junitFile: options['junit'] as string | undefined,
          isKept: options['keep'] === true,
        }),
      ),
    );
  addNotes(connectivity, `Tests: ${checks.map(({ name }) => name).join(', ')}`);
  const explaining = root
    .command('explain')
    .description(explainSummary)
    .argument('[code]', 'such as agent-away or drop_no_match')
    .action((code: string | undefined, _options, command: Command) =>
      explain(out, code, contextOf(command).wantsJson),
    );
  completeArgument(explaining, codeNames);
  addCompletion(root, 'kubectl-tandem', out);
  return root;
}

function readExternal(text: string): ConnectivityOptions['external'] {
  const match = /^([a-z0-9][a-z0-9.-]{0,252}):(\d{1,5})$/i.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port < 1 || port > 65_535)
    throw new InvalidArgumentError('Give NAME:PORT, such as example.com:443.');
  return { name: match[1] as string, port };
}

function collectPath(path: string, earlier: readonly string[] = []): readonly string[] {
  return [...earlier, path];
}

function collect(value: string, earlier: readonly string[] = []): readonly string[] {
  if (value === '' || value.startsWith('-')) throw new InvalidArgumentError('Give a name.');
  return [...earlier, value];
}
