// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The agent's process, or, by its first argument, the program that takes Tandem from the node. */

import { runMember } from '@tandem/dns-proxy/member-process';
import { Agent } from './agent.ts';
import { agentConfigSpec } from './config.ts';

const [command, ...rest] = process.argv.slice(2);
if (command === 'remove') {
  const { remove } = await import('./remove.ts');
  process.exitCode = await remove(rest);
} else {
  process.exitCode = await runMember(agentConfigSpec, (parts) => new Agent(parts));
}
process.exit();
