// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** All codes of Tandem, of every kind: what `tandem explain` and docs/reference/codes.md show. */

import type { CodeTable, CodeText } from '@tandem/core/codes/code';
import { degradationCodes } from '@tandem/core/codes/degradations';
import { diagnosticCodes } from '@tandem/core/codes/diagnostics';
import { errorCodes } from '@tandem/core/codes/errors';
import { dnsOutcomeCodes, lostEventCodes, queryVerdictCodes } from '@tandem/core/codes/events';
import { conditionCodes, reasonCodes } from '@tandem/core/codes/kubernetes';
import { dropReasonCodes } from '@tandem/datapath/drop-reasons';
import { checkCodes } from '../doctor/check-codes.ts';

export type CodeKind =
  | 'degradation'
  | 'diagnostic'
  | 'drop-reason'
  | 'dns-outcome'
  | 'query-verdict'
  | 'lost-events'
  | 'error'
  | 'doctor-check'
  | 'event-reason'
  | 'condition';

interface KindOfCode {
  readonly kind: CodeKind;
  readonly title: string;
  /** Where an operator sees the codes. */
  readonly where: string;
  readonly table: CodeTable;
}

/** In the order of the page. */
export const codeKinds: readonly KindOfCode[] = [
  {
    kind: 'degradation',
    title: 'Degradations',
    where: '`degraded` of `tandem status`, label `code` of the metric `tandem_degraded`',
    table: degradationCodes,
  },
  {
    kind: 'diagnostic',
    title: 'Diagnostics',
    where: '`diagnostics` of `tandem status`, `findings` of `tandem policy validate`',
    table: diagnosticCodes,
  },
  {
    kind: 'drop-reason',
    title: 'Drop reasons',
    where:
      'drop events of `tandem observe`; without `drop_`, label `reason` of `tandem_datapath_dropped_packets_total`',
    table: dropReasonCodes,
  },
  {
    kind: 'dns-outcome',
    title: 'Outcomes of DNS queries',
    where: 'DNS events of `tandem observe`, `outcome` in the JSON',
    table: dnsOutcomeCodes,
  },
  {
    kind: 'query-verdict',
    title: 'Verdicts of DNS queries',
    where: 'label `verdict` of `tandem_dns_queries_total`',
    table: queryVerdictCodes,
  },
  {
    kind: 'lost-events',
    title: 'Reasons for lost events',
    where: 'lines `lost` of `tandem observe`',
    table: lostEventCodes,
  },
  {
    kind: 'error',
    title: 'Errors',
    where: 'logs and messages of all programs',
    table: errorCodes,
  },
  {
    kind: 'doctor-check',
    title: 'Checks of tandem doctor',
    where: '`check` of `tandem doctor`; the severity is that of a check that does not pass',
    table: checkCodes,
  },
  {
    kind: 'event-reason',
    title: 'Reasons of Kubernetes Events and conditions',
    where:
      'Events about NetworkPolicies and conditions of ClusterNetworkPolicies: `kubectl describe`',
    table: reasonCodes,
  },
  {
    kind: 'condition',
    title: 'Conditions of policies',
    where: "`status.conditions` of Cilium's policies and ClusterNetworkPolicies",
    table: conditionCodes,
  },
];

/** One element of `codes` in the JSON of `tandem explain`. */
export interface CatalogueEntry extends CodeText {
  readonly code: string;
  readonly kind: CodeKind;
}

/** By kind, in the order of each table. */
export const catalogue: readonly CatalogueEntry[] = codeKinds.flatMap(({ kind, table }) =>
  Object.entries(table).map(([code, text]) => ({ code, kind, ...text })),
);

/** One code may be of several kinds. `code`: in any case, a drop reason with or without its prefix. */
export function entriesOf(code: string): readonly CatalogueEntry[] {
  const wanted = code.toLowerCase();
  return catalogue.filter((entry) => {
    const own = entry.code.toLowerCase();
    return own === wanted || (entry.kind === 'drop-reason' && own === `drop_${wanted}`);
  });
}

/** Each once, in alphabetical order. */
export const codeNames: readonly string[] = [...new Set(catalogue.map(({ code }) => code))].sort();
