// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The agent's process. */

import { runMember } from '@tandem/dns-proxy/member-process';
import { Agent } from './agent.ts';
import { agentConfigSpec } from './config.ts';

process.exitCode = await runMember(agentConfigSpec, (parts) => new Agent(parts));
process.exit();
