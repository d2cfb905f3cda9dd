// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Codes that the controller writes to the Kubernetes API: reasons of Events, types of conditions. */

import type { CodeTable } from './code.ts';

/** `reason` of Events about NetworkPolicies, whose kind has no status, and of conditions of ClusterNetworkPolicies. */
const reasonRows = {
  PolicyInvalid: {
    severity: 'error',
    meaning:
      'the policy is not valid: its last valid version stays in force, or else the pods that it selects are denied',
    fix: 'correct the field that the note or message names; `tandem policy validate -f FILE` finds the same before it is applied',
  },
  PolicyWarning: {
    severity: 'warning',
    meaning:
      'the policy is valid and contains something that has no effect or is probably a mistake',
    fix: 'change or remove the field that the note or message names',
  },
  PolicyValid: {
    severity: 'info',
    meaning: 'of conditions alone: the policy is valid, and nothing in it needs a change',
    fix: 'none',
  },
} as const;
export type ReasonCode = keyof typeof reasonRows;
export const reasonCodes: CodeTable<ReasonCode> = reasonRows;

/** `type` of conditions in the status of policies: of Cilium's kinds as Cilium writes them, without a reason. */
const conditionRows = {
  Valid: {
    severity: 'info',
    meaning:
      'the policy is valid (True), or has an error (False): then its last valid version stays in force, or the pods that it selects are denied',
    fix: 'correct the field that the message of the condition names, if it is False',
  },
} as const;
export type ConditionCode = keyof typeof conditionRows;
export const conditionCodes: CodeTable<ConditionCode> = conditionRows;
