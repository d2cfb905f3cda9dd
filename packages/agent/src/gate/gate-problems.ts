// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What does not hold of the gate, and what that means for pods. */

import { join } from 'node:path';
import type { Degradation } from '@tandem/dns-proxy/admin/degradations';
import { gateConfigName } from './gate-installer.ts';

export interface GateState {
  /** Pods start by a configuration with the gate in it. */
  readonly isInChain: boolean;
  /** The plugin finds the agent. */
  readonly isServed: boolean;
}

const again = 'the agent tries again every few seconds';

/** The gate is not as it should be, for `reason`. */
export function gateProblem({ isInChain, isServed }: GateState, reason: string): Degradation {
  if (!isInChain) {
    return {
      code: 'gate-missing',
      message: `the CNI gate is not in the chain, so pods of this node start before their policy is enforced (their traffic is held until then): ${reason}`,
      fix: `mend what the message names; if pods run here, cniConfDir (gate.confDir of the chart) must be the directory from which the container runtime reads CNI configurations, and no other file may come before ${gateConfigName} by name; ${again}`,
    };
  }
  return isServed
    ? {
        code: 'gate-stale',
        message: `the CNI gate holds pods, but by an earlier program or network configuration: ${reason}`,
        fix: `mend the file that the message names, or make it writable; ${again}`,
      }
    : {
        code: 'gate-closed',
        message: `pods of this node do not start, because the agent cannot open the socket of the CNI gate: ${reason}`,
        fix: `make runDir a writable directory of root; ${again}`,
      };
}

/** It is still in the chain of `directory`, where it is not wanted any more. */
export function gateLeft(directory: string, reason: string): Degradation {
  return {
    code: 'gate-left',
    message: `the CNI gate is turned off, but still in the chain of ${directory}, so pods that the container runtime starts by it do not start: ${reason}`,
    fix: `rm ${join(directory, gateConfigName)}`,
  };
}
