// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A process with a member of the group: the agent's and the DNS proxy's begin and end alike. */

import { type ErrorCode, isBugCode } from '@tandem/core/codes/errors';
import type { MemberIndex } from '@tandem/datapath/member';
import type { ConfigSpec } from '@tandem/runtime/config';
import { type Component, exitCodes, Lifecycle } from '@tandem/runtime/lifecycle';
import type { Logger } from '@tandem/runtime/log';
import { type ProbeAnswer, type ProbeQuestion, ProbeServer } from '@tandem/runtime/probe-server';
import { startProgram } from '@tandem/runtime/program-start';
import { TandemError } from '@tandem/runtime/tandem-error';
import { requireNodeClocks } from '@tandem/runtime/time-namespace';
import { type MemberConfig, memberSettings, peerSocketPath } from './config.ts';
import type { DnsMemberOptions } from './dns-member.ts';
import { stopMarginMs } from './limits.ts';
import { MemberPhase } from './member-phase.ts';
import { logFenced, logIndexTaken, logListeners, logPeer, logUnfenced } from './peer/log.ts';
import type { DenialOptions } from './query/denial.ts';
import { readSearchList } from './search-list.ts';
import { version } from './version.ts';

/** Code of a start after which no policy is enforced on the node; it has an exit code of its own. */
export const nothingEnforcedCode: ErrorCode = 'TANDEM_NOTHING_ENFORCED';

/** Code of a process that serves with pins which an agent has replaced. */
export const pinsReplacedCode: ErrorCode = 'TANDEM_PINS_REPLACED';

/** A start may have to wait for the end of another process with the same index, however long it takes. */
const startTimeoutMs = 2 ** 31 - 1;
/** File that kubelet reads by default. */
const resolvConfPath = '/etc/resolv.conf';

/** Parts that a process passes to the component that it runs. */
export interface MemberParts<Config extends MemberConfig> {
  readonly config: Config;
  readonly log: Logger;
  readonly phase: MemberPhase;
  /** This process cannot go on. */
  readonly onFailure: (error: TandemError) => void;
}

/**
 * Runs the component that `create` makes of the configuration until it gets a signal to stop. Returns the exit
 * code. Faults of the configuration are printed on stderr, one a line. `prepare` comes
 * before everything else, and may put another program in the place of this one.
 */
export async function runMember<Config extends MemberConfig>(
  spec: ConfigSpec<Config>,
  create: (parts: MemberParts<Config>) => Component,
  prepare: (config: Config) => Promise<void> = () => Promise.resolve(),
): Promise<number> {
  const started = startProgram(spec, version);
  if (typeof started === 'number') return started;
  const { config, log } = started;
  try {
    requireNodeClocks();
    await prepare(config);
  } catch (error) {
    log.error('start failed', { error: TandemError.from(error) });
    return exitCodes.startFailed;
  }
  const stopTimeoutMs = config.drainTimeout + stopMarginMs;
  const startFailedCode = ({ code }: TandemError): number =>
    code === nothingEnforcedCode ? exitCodes.nothingEnforced : exitCodes.startFailed;
  const lifecycle = new Lifecycle({ log, startTimeoutMs, stopTimeoutMs, startFailedCode });
  const phase = new MemberPhase();
  if (config.probeSocket !== '') {
    lifecycle.add(new ProbeServer(config.probeSocket, (each) => answerProbe(each, phase), log));
  }
  const onFailure = (error: TandemError): void => {
    // The other member and the kernel go on; a worker in an unknown state must not.
    const isReplaced = error.code === pinsReplacedCode;
    log.error(isReplaced ? 'ends, to be started again' : 'DNS worker failed', { error });
    process.exit(isBugCode(error.code) ? exitCodes.bug : startFailedCode(error));
  };
  lifecycle.add(create({ config, log, phase, onFailure }));
  return lifecycle.run();
}

function answerProbe(question: ProbeQuestion, phase: MemberPhase): ProbeAnswer {
  return question === 'readyz' ? phase.readiness : phase.liveness;
}

type OwnOptions = 'keepsTables' | 'onEvent' | 'onFailure';

/** Which member a process is, and the directory of its fence file (index-lock/fence-file.ts). */
export interface MemberPlace {
  readonly member: MemberIndex;
  readonly fenceDirectory: string;
}

/** Options of a member from the configuration that both processes have. */
export function dnsMemberOptions(
  { config, log, phase }: Omit<MemberParts<MemberConfig>, 'onFailure'>,
  { member, fenceDirectory }: MemberPlace,
): Omit<DnsMemberOptions, OwnOptions> {
  return {
    phase,
    worker: {
      member,
      pinRoot: config.bpffsDir,
      ...memberSettings(config),
      peerPath: peerSocketPath(config),
      denial: denialOptions(config, log),
      graceSeconds: config.fqdnGraceSeconds,
      ttlSecondsMin: config.ttlSecondsMin,
      queriesPerSecond: config.queriesPerSecond,
      tcpConnectionsPerPod: config.tcpConnectionsPerPod,
    },
    indexLock: {
      fenceDirectory,
      onIndexTaken: (path) => logIndexTaken(log, path),
      onFenced: (ms) => logFenced(log, ms),
      onUnfenced: (reason) => logUnfenced(log, reason),
    },
    drainTimeoutMs: config.drainTimeout,
    onPeer: (event, index) => logPeer(log, event, index),
    onListeners: (problem) => logListeners(log, config.port, problem),
  };
}

/** The search list is read now, so a change of the node's takes a restart. */
function denialOptions(config: MemberConfig, log: Logger): DenialOptions {
  const { denial: mode, clusterDomain, searchSuffixes } = config;
  if (mode !== 'search') return { mode, suffixes: [] };
  if (searchSuffixes.length > 0) return { mode, suffixes: [clusterDomain, ...searchSuffixes] };
  const list = readSearchList(resolvConfPath);
  if (list instanceof TandemError) {
    log.warn(
      'the search list cannot be read: denied names under search suffixes of the node get REFUSED',
      {
        error: list,
      },
    );
    return { mode, suffixes: [clusterDomain] };
  }
  const { suffixes, ignored } = list;
  if (ignored > 0)
    log.warn('the search list has suffixes that cannot be used', { resolvConfPath, ignored });
  return { mode, suffixes: [clusterDomain, ...suffixes] };
}
