// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Completion in shells. The script that `completion SHELL` prints asks the program itself (`__complete WORDS`), so that
 * what is offered is what the program of that version takes.
 */

import { type Command, InvalidArgumentError, type Option } from 'commander';
import type { Printer } from './output/printer.ts';

export const shells = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof shells)[number];

const scripts: Readonly<Record<Shell, (program: string) => string>> = {
  bash: (program) => `_${word(program)}() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(${program} __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _${word(program)} ${program}
`,
  zsh: (program) => `#compdef ${program}
_${word(program)}() {
  local -a offered
  offered=("\${(@f)$(${program} __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -a offered || _files
}
compdef _${word(program)} ${program}
`,
  fish: (
    program,
  ) => `complete --command ${program} --arguments '(${program} __complete -- (commandline --tokenize --current-process --cut-at-cursor)[2..] (commandline --current-token) 2>/dev/null)'
`,
};

const word = (program: string): string => program.replaceAll(/\W/g, '_');

/** Adds `completion` and what its script calls. `program`: as it is called in a shell. */
export function addCompletion(root: Command, program: string, out: Printer): void {
  root
    .command('completion')
    .description(`print the script of shell completion: source <(${program} completion bash)`)
    .argument('<shell>', shells.join(', '), readShell)
    .action((shell: Shell) => out.paragraphs(scripts[shell](program)));
  root
    .command('__complete', { hidden: true })
    .argument('[words...]')
    .action((words: readonly string[]) => {
      for (const each of candidates(root, words)) out.line(each);
    });
}

function readShell(text: string): Shell {
  const shell = shells.find((each) => each === text);
  if (shell === undefined) throw new InvalidArgumentError(`Give ${shells.join(', ')}.`);
  return shell;
}

const argumentValues = new WeakMap<Command, readonly string[]>();

/** Has shells offer `values` where the argument of the command stands. */
export function completeArgument(command: Command, values: readonly string[]): void {
  argumentValues.set(command, values);
}

/** Candidates for the last word, which may be empty or begun. */
export function candidates(root: Command, words: readonly string[]): readonly string[] {
  let command = root;
  let awaited: Option | undefined;
  for (const each of words.slice(0, -1)) {
    if (awaited !== undefined) awaited = undefined;
    else if (each.startsWith('-')) awaited = valueOption(command, each);
    else command = command.commands.find((sub) => sub.name() === each) ?? command;
  }
  const begun = words.at(-1) ?? '';
  if (awaited !== undefined)
    return (awaited.argChoices ?? []).filter((each) => each.startsWith(begun));
  const offered = begun.startsWith('-')
    ? optionsOf(command).map(({ long, short }) => long ?? short ?? '')
    : [...command.commands.map((sub) => sub.name()), ...(argumentValues.get(command) ?? [])];
  return offered.filter((each) => each.startsWith(begun) && !each.startsWith('__'));
}

/** The option, if the next word is its value. */
function valueOption(command: Command, text: string): Option | undefined {
  if (text.includes('=')) return undefined;
  const option = optionsOf(command).find(({ long, short }) => text === long || text === short);
  return option?.required === true || option?.optional === true ? option : undefined;
}

function optionsOf(command: Command): readonly Option[] {
  const inherited = command.parent === null ? [] : optionsOf(command.parent);
  return [...command.options, ...inherited];
}
