// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `kubectl tandem node NODE -- COMMAND`: a command of `tandem` on one node, its output and its exit code. */

import { unreachableError } from '../errors.ts';
import { type ExitCode, exitCode } from '../exit-codes.ts';
import { findNodes, inPod, whyNobody } from './ask-nodes.ts';
import type { PluginContext } from './context.ts';
import { askable } from './node-pods.ts';

export async function runNode(
  { kubectl, wantsJson }: PluginContext,
  name: string,
  args: readonly string[],
): Promise<ExitCode> {
  const [node] = await findNodes(kubectl, [name]);
  const [pod] = askable(node?.pods ?? []);
  if (pod === undefined) throw unreachableError(`${name}: ${whyNobody(node?.pods ?? [])}`);
  const all = wantsJson ? ['--output=json', ...args] : args;
  const code = await kubectl.runOnTerminal(inPod(pod, all));
  return Object.values(exitCode).find((known) => known === code) ?? exitCode.problem;
}
