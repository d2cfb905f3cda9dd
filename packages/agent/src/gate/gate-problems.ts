// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Degradations of the CNI gate, and their consequence for pods. */

import { join } from 'node:path';
import { degradationCodes } from '@tandem/core/codes/degradations';
import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import { gateConfigName } from './gate-installer.ts';

export interface GateState {
  /** Pods start by a configuration with the gate in it. */
  readonly isInChain: boolean;
  /** The plugin finds the agent. */
  readonly isServed: boolean;
}

const again = 'the agent tries again every few seconds';

/** Why the gate does not work as configured. */
export function gateProblem({ isInChain, isServed }: GateState, reason: string): Degradation {
  if (!isInChain) {
    return degradation('gate-missing', {
      message: `${degradationCodes['gate-missing'].meaning}: ${reason}`,
      fix: `fix the cause that the message names; if pods run on this node, cniConfDir (gate.confDir of the chart) must be the directory from which the container runtime reads CNI configurations, and no other file may come before ${gateConfigName} by name; ${again}`,
    });
  }
  const code = isServed ? 'gate-stale' : 'gate-closed';
  return degradation(code, { message: `${degradationCodes[code].meaning}: ${reason}` });
}

/** The configuration of the gate is still in the chain of `directory`, where it is disabled. */
export function gateLeft(directory: string, reason: string): Degradation {
  return degradation('gate-left', {
    message: `the CNI gate is disabled, and its configuration could not be removed from the chain of ${directory}: pods that the container runtime starts by that chain do not start: ${reason}`,
    fix: `rm ${join(directory, gateConfigName)}`,
  });
}
