// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The failures that an agent does not go on after: its datapath cannot be loaded, or its DNS worker does not open it. The
 * message says whether policy is enforced without it.
 */

import { existsSync } from 'node:fs';
import { isBugCode } from '@tandem/core/codes/errors';
import { NodeGroup } from '@tandem/datapath/group';
import { OtherDatapathError } from '@tandem/datapath/hook-taken';
import { OtherNetworkError } from '@tandem/datapath/other-datapath';
import { pinPaths } from '@tandem/datapath/paths';
import { nothingEnforcedCode } from '@tandem/dns-proxy/member-process';
import { memoryLimit } from '@tandem/runtime/memory-limit';
import { TandemError } from '@tandem/runtime/tandem-error';

/** Runs `work`; its failure is the start's, with what holds on the node. `root`: its pins; `what`: what fails then. */
export async function withoutDatapath<T>(
  root: string,
  work: () => Promise<T> | T,
  what = 'the datapath cannot be loaded',
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw await failureOnNode(root, error, what);
  }
}

/** The error with what holds on the node while the agent is away. A bug keeps its code. */
export async function failureOnNode(
  root: string,
  error: unknown,
  what: string,
): Promise<TandemError> {
  const failure = TandemError.from(error);
  const { message: said, facts } = failure;
  if (error instanceof OtherDatapathError) {
    return new TandemError('TANDEM_DATAPATH', `${what}: ${said}`, { cause: error });
  }
  if (error instanceof OtherNetworkError) {
    return new TandemError(
      nothingEnforcedCode,
      `${what} and NO POLICY IS ENFORCED in this network namespace: ${said}`,
      { cause: error },
    );
  }
  const isBug = error instanceof TandemError && isBugCode(error.code);
  const message = isBug ? said : await explained(error, said);
  const revision = await enforcedRevision(root);
  const options = { cause: error, facts };
  if (revision > 0) {
    return new TandemError(
      isBug ? failure.code : 'TANDEM_DATAPATH',
      `${what}; the pinned programs go on enforcing policy revision ${revision}: ${message}`,
      options,
    );
  }
  return new TandemError(
    isBug ? failure.code : nothingEnforcedCode,
    `${what} and NO POLICY IS ENFORCED on this node: ${message}${isBug ? '' : '; ask `tandem doctor --preflight`'}`,
    options,
  );
}

function explained(error: unknown, message: string): Promise<string> | string {
  return isOutOfMemory(error) ? withMemoryLimit(message) : withMissingFeatures(message);
}

/** The kernel charges maps and programs to the cgroup of who loads them, and refuses them at its limit without killing anybody. */
function isOutOfMemory(error: unknown): boolean {
  if (error instanceof TandemError) return error.facts['errno'] === 'ENOMEM';
  return error instanceof Error && (error as { errnoName?: unknown }).errnoName === 'ENOMEM';
}

function withMemoryLimit(message: string): string {
  const limit = memoryLimit();
  const now =
    limit === null ? '' : `, now ${Math.floor(limit.bytes / (1 << 20))} MiB (${limit.path})`;
  return `no memory for BPF programs and maps: raise the memory limit of the agent${now}, or free memory on the node: ${message}`;
}

/** A kernel that lacks a feature gets that as the reason: the verifier's message helps less. */
async function withMissingFeatures(message: string): Promise<string> {
  try {
    const { missingFeatures } = await import('@tandem/bpf-loader-node/feature');
    const missing = missingFeatures();
    if (missing.length === 0) return message;
    const named = missing.map(({ name, reason = '' }) => `${name} (${reason})`).join(', ');
    return `features of the kernel are missing: ${named}: ${message}`;
  } catch {
    // The addon itself cannot be loaded, which is what the message is about.
    return message;
  }
}

/** The revision that pinned programs enforce; 0: none. */
async function enforcedRevision(root: string): Promise<number> {
  try {
    // Not before it is needed: an agent that starts well answers DNS before it loads this.
    const { Datapath } = await import('@tandem/datapath/datapath');
    using datapath = Datapath.open(root);
    if (!existsSync(pinPaths(root).links) || !datapath.isJudging()) return 0;
    return new NodeGroup(datapath.map('group').mmap()).appliedRevision;
  } catch {
    // Nothing is pinned, or not what this version can read.
    return 0;
  }
}
