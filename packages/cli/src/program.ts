// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The command line: commander's tree made of `CliCommand`s, one outcome for every end. All that a run
 * reads of the world is in `CliWorld`, so that tests run it in their own process.
 */

import { version } from '@tandem/dns-proxy/version';
import { Command, CommanderError, Option } from 'commander';
import type { CliCommand } from './command.ts';
import { addNotes, configured } from './commander.ts';
import { doctorCommand } from './commands/doctor.ts';
import { endpointListCommand } from './commands/endpoint-list.ts';
import { explainCommand } from './commands/explain.ts';
import { fqdnListCommand } from './commands/fqdn-list.ts';
import { observeCommand } from './commands/observe.ts';
import { policyValidateCommand } from './commands/policy-validate.ts';
import { statusCommand } from './commands/status.ts';
import { versionCommand } from './commands/version.ts';
import { addCompletion, completeArgument } from './completion.ts';
import { exitCodeOf, printError, usageError } from './errors.ts';
import { type ExitCode, exitCode, exitCodeHelp } from './exit-codes.ts';
import { type OutputStream, Printer } from './output/printer.ts';
import {
  flagOf,
  globalSettingNames,
  loadSettings,
  nodeSettingNames,
  type SettingName,
} from './settings.ts';

export interface CliWorld {
  /** After the program's own name. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly signal: AbortSignal;
  /** Wall clock, ms since 1970. */
  readonly nowMs: () => number;
}

const groups: Readonly<Record<string, string>> = {
  endpoint: 'pods of the node',
  fqdn: 'names and their addresses',
  policy: 'policies',
};

const commands: readonly CliCommand[] = [
  statusCommand,
  endpointListCommand,
  fqdnListCommand,
  observeCommand,
  policyValidateCommand,
  doctorCommand,
  explainCommand,
  versionCommand,
];

/** Runs one command line; never throws for what a user can cause. */
export async function runCli(world: CliWorld): Promise<ExitCode> {
  const out = new Printer(world.stdout, world.env);
  const notes = new Printer(world.stderr, world.env);
  let code: ExitCode = exitCode.ok;
  const program = createProgram(out, notes, async (command, options, words) => {
    code = await runCommand(command, options, words, world, out, notes);
  });
  try {
    await program.parseAsync([...world.argv], { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCode.ok : exitCode.usage;
    return exitCodeOf(printError('tandem', error, notes));
  }
}

type Options = Readonly<Record<string, unknown>>;

async function runCommand(
  command: CliCommand,
  options: Options,
  words: readonly string[],
  world: CliWorld,
  out: Printer,
  notes: Printer,
): Promise<ExitCode> {
  const flags: Partial<Record<SettingName, string>> = {};
  for (const name of [...globalSettingNames, ...nodeSettingNames]) {
    const value = options[name];
    if (typeof value === 'string') flags[name] = value;
  }
  const configPath = typeof options['config'] === 'string' ? options['config'] : undefined;
  const settings = loadSettings(flags, configPath, world.env);
  if (!settings.ok) throw usageError(settings.error.join('; '));
  const { signal, nowMs } = world;
  const wantsJson = options['output'] === 'json';
  const context = { settings: settings.value, out, notes, wantsJson, signal, nowMs };
  return command.run(context, options, words);
}

type Run = (command: CliCommand, options: Options, words: readonly string[]) => Promise<void>;

function createProgram(out: Printer, notes: Printer, run: Run): Command {
  const program = configured(new Command('tandem'), out, notes)
    .description(
      "Tandem's command line: reads the state of this node from its agent, its DNS proxy and the pinned maps.",
    )
    .version(version, '--version', 'version of this program')
    .addOption(
      new Option('-o, --output <format>', 'output format')
        .choices(['table', 'json'])
        .default('table'),
    )
    .option('--config <file>', "the agent's or proxy's configuration file (TANDEM_CONFIG)");
  for (const name of globalSettingNames) program.addOption(flagOf(name));
  addNotes(program, exitCodeHelp);
  const parents = new Map<string, Command>();
  for (const command of commands) addCommand(program, parents, command, run);
  addCompletion(program, 'tandem', out);
  return program;
}

function addCommand(
  program: Command,
  parents: Map<string, Command>,
  command: CliCommand,
  run: Run,
): void {
  const [first = '', second] = command.name.split(' ');
  let parent = program;
  if (second !== undefined) {
    parent = parents.get(first) ?? program.command(first).description(groups[first] ?? '');
    parents.set(first, parent);
  }
  const made = parent.command(second ?? first).description(command.summary);
  command.configure?.(made);
  if (command.details !== undefined) addNotes(made, command.details);
  if (command.completes !== undefined) completeArgument(made, command.completes);
  made.action(async () => run(command, made.optsWithGlobals(), made.args));
}
