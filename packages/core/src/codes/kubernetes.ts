// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Codes that the controller writes to the Kubernetes API: reasons of Events, types of conditions. */

import type { CodeTable } from './code.ts';

/** `reason` of Events about NetworkPolicies, whose kind has no status. */
const eventReasonRows = {
  PolicyInvalid: {
    severity: 'error',
    meaning:
      'the NetworkPolicy is not valid: its last valid version stays in force, or else the pods that it selects are denied',
    fix: 'correct the field that the note names; `tandem policy validate -f FILE` finds the same before it is applied',
  },
  PolicyWarning: {
    severity: 'warning',
    meaning:
      'the NetworkPolicy is valid and contains something that has no effect or is probably a mistake',
    fix: 'change or remove the field that the note names',
  },
} as const;
export type EventReasonCode = keyof typeof eventReasonRows;
export const eventReasonCodes: CodeTable<EventReasonCode> = eventReasonRows;

/** `type` of conditions in the status of Cilium's policies. Like Cilium, without a reason. */
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
