// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * `tandem-agent remove`: takes Tandem from a node on which no process of it runs any more. The CNI gate goes first, so
 * that pods start from then on; then policy ends; last, the files. With every step it can be run again.
 */

import { existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { TD_MEMBERS_MAX } from '@tandem/datapath/abi.gen';
import { markCandidates } from '@tandem/datapath/config';
import { readPinnedSettings } from '@tandem/datapath/group-settings';
import type { MemberIndex } from '@tandem/datapath/member';
import { pinPaths } from '@tandem/datapath/paths';
import { makeDirectories } from '@tandem/datapath/pins';
import { PathLock } from '@tandem/dns-sockets/lock';
import { NetworkView } from '@tandem/netlink/network-view';
import { type ConfigSpec, loadConfig, systemSources } from '@tandem/runtime/config';
import { boolOption } from '@tandem/runtime/config-option';
import { exitCodes } from '@tandem/runtime/lifecycle';
import { createLogger, type Logger } from '@tandem/runtime/log';
import { TandemError } from '@tandem/runtime/tandem-error';
import { type AgentConfig, agentConfigSpec } from './config.ts';

import { removeConfig, removePlugin } from './gate/gate-installer.ts';
import { GateRecord } from './gate/gate-record.ts';
import { removePollMs, removeWaitMs, runtimeSettleMs } from './limits.ts';
import { removeDatapath } from './node/node-removal.ts';

const usage = `Usage: tandem-agent remove [OPTION]...

Takes Tandem from this node: the CNI gate, programs, maps, rules, routes, sockets, the saved policy. Policy ends. It waits
for processes of Tandem that are ending, and fails where one runs on. Options are those of tandem-agent, with the values
that it had; they matter where they name directories. It may be run again.

  --keep-gate-program  leaves tandem-gate in cniBinDir: for CRI-O, which ends a pod by the configuration that it was started with

Exit code 0: nothing is left; 1: the message says what is; 2: an option is wrong.
`;

/** A removal needs neither a source nor a name; both may be given, as to the agent. */
interface RemoveConfig extends AgentConfig {
  readonly keepGateProgram: boolean;
}

const removeConfigSpec: ConfigSpec<RemoveConfig> = {
  ...agentConfigSpec,
  options: {
    ...agentConfigSpec.options,
    source: { ...agentConfigSpec.options.source, fallback: '' },
    nodeName: { ...agentConfigSpec.options.nodeName, fallback: '' },
    keepGateProgram: {
      ...boolOption({ description: 'leaves tandem-gate in cniBinDir', default: false }),
      isFlagOnly: true,
    },
  },
};

/** Names that our processes create in these directories: other files stay. */
const runNames = /^(?:(?:agent-sync|agent-admin|peer)\.sock|gate|proxy|fence-\d+-\d+)$/;
const stateNames = /^(?:policy\.snapshot|ids|gate-directory|source$)/;
const copyNames = /^policy\.snapshot$/;

/** `argv`: options alone. Returns the exit code. */
export async function remove(argv: readonly string[]): Promise<number> {
  const { program } = agentConfigSpec;
  const loaded = loadConfig(removeConfigSpec, { ...systemSources(), argv });
  if (loaded.kind === 'help' || loaded.kind === 'version') {
    process.stdout.write(usage);
    return exitCodes.ok;
  }
  if (loaded.kind === 'error') {
    for (const error of loaded.errors) process.stderr.write(`${program}: ${error}\n`);
    return exitCodes.usage;
  }
  const { config } = loaded;
  const log = createLogger({ program, level: config.logLevel, format: config.logFormat });
  try {
    const problems = await removeAll(config, { keepsProgram: config.keepGateProgram, log });
    for (const reason of problems)
      log.error('a part of Tandem could not be removed from the node', { reason });
    if (problems.length > 0) return exitCodes.startFailed;
    log.info('Tandem was removed from this node');
    return exitCodes.ok;
  } catch (error) {
    log.error('Tandem could not be removed', { error: TandemError.from(error) });
    return exitCodes.startFailed;
  }
}

interface Removal {
  readonly keepsProgram: boolean;
  readonly log: Logger;
}

async function removeAll(config: AgentConfig, removal: Removal): Promise<readonly string[]> {
  const locks = await takeAllIndexes(config.bpffsDir, removal.log);
  try {
    const problems = await removeGate(config, removal);
    // Nothing would release held pods after the rest is gone.
    if (problems.length > 0) return problems;
    const rest = await removeKernelParts(config);
    return [
      ...rest,
      // Saved policy is kept for as long as the kernel enforces it.
      ...(rest.length === 0 ? removeFiles(config.runDir, copyNames) : []),
      ...removeFiles(config.runDir, runNames),
      ...(rest.length === 0 ? removeFiles(config.stateDir, stateNames) : []),
    ];
  } finally {
    for (const lock of locks) lock[Symbol.dispose]();
  }
}

/** The index of every member, so that none runs or begins meanwhile. @throws TandemError when one runs on */
export async function takeAllIndexes(
  pinRoot: string,
  log: Pick<Logger, 'info'>,
  waitMs: number = removeWaitMs,
): Promise<readonly PathLock[]> {
  const paths = pinPaths(pinRoot);
  // An agent that starts now finds its index taken.
  makeDirectories(paths);
  const locks: PathLock[] = [];
  const endsMs = performance.now() + waitMs;
  let isSaid = false;
  for (let index = 0; index < TD_MEMBERS_MAX; ) {
    const path = paths.member(index as MemberIndex);
    const lock = PathLock.tryTake(path);
    if (lock !== null) {
      locks.push(lock);
      index += 1;
      continue;
    }
    if (!isSaid) log.info('waiting for a process of Tandem to end', { index: path });
    isSaid = true;
    if (performance.now() > endsMs) {
      for (const each of locks) each[Symbol.dispose]();
      throw new TandemError(
        'TANDEM_RUNNING',
        `a process of Tandem runs on this node (it has ${path}): end it first, and remove what would start it again`,
      );
    }
    // oxlint-disable-next-line no-await-in-loop -- a poll: flock(2) that waits would hold a thread
    await delay(removePollMs);
  }
  return locks;
}

/** First the configurations that call it, and the program when the runtime has read what is there now. */
async function removeGate(
  config: AgentConfig,
  { keepsProgram, log }: Removal,
): Promise<readonly string[]> {
  const directories = new Set([config.cniConfDir, new GateRecord(config.stateDir).read()]);
  directories.delete('');
  const placesOf = (configDirectory: string): Parameters<typeof removePlugin>[0] => ({
    configDirectory,
    pluginDirectory: config.cniBinDir,
    socketPath: '',
  });
  let isChanged = false;
  for (const directory of directories) {
    if (!existsSync(directory)) continue;
    if (removeConfig(placesOf(directory))) {
      isChanged = true;
      log.info('the CNI gate was removed from the chain', { directory });
    }
  }
  if (keepsProgram) return [];
  if (isChanged) await delay(runtimeSettleMs);
  return [...directories].flatMap((directory) => {
    const removed = removePlugin(placesOf(directory));
    return removed.ok ? [] : [removed.error];
  });
}

async function removeKernelParts(config: AgentConfig): Promise<readonly string[]> {
  const { bpffsDir: pinRoot, proxyUid: proxyGid, port, routingTable, rulePriority } = config;
  const wanted = config.mark === 'auto' ? markCandidates[0] : config.mark;
  const mark = pinnedMark(pinRoot) ?? wanted;
  const view = await NetworkView.open({ tables: [routingTable] });
  try {
    const rules = { mark, port, routingTable, rulePriority };
    const problems = await removeDatapath({ view, rules, pinRoot, proxyGid });
    return problems.map(({ part, message }) => `${part}: ${message}`);
  } finally {
    view.close();
  }
}

/** Null: nothing is pinned, or in a way that this version cannot read. Rules are found by who made them too. */
function pinnedMark(pinRoot: string): number | null {
  try {
    return readPinnedSettings(pinRoot)?.mark ?? null;
  } catch {
    return null;
  }
}

/** The directory goes when it is empty: in a pod it is a mount point, and stays. */
function removeFiles(directory: string, names: RegExp): readonly string[] {
  if (!existsSync(directory)) return [];
  const problems: string[] = [];
  for (const name of readdirSync(directory)) {
    if (!names.test(name)) continue;
    try {
      rmSync(join(directory, name), { recursive: true, force: true });
    } catch (error) {
      problems.push(`${join(directory, name)}: ${TandemError.from(error).message}`);
    }
  }
  try {
    rmdirSync(directory);
  } catch {
    // others' files are in it, or it is a mount point
  }
  return problems;
}
