// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `tandem fqdn list`: the addresses that names have, and until when. */

import { nameToText } from '@tandem/core/dns/name';
import { formatAddress } from '@tandem/core/net/ip';
import type { FqdnEntry } from '@tandem/proto/gen/messages';
import { AdminService } from '@tandem/proto/gen/services';
import { connectAdmin } from '../admin/connection.ts';
import type { CliCommand } from '../command.ts';
import { nameOption } from '../command-options.ts';
import { type ExitCode, exitCode } from '../exit-codes.ts';
import type { Printer } from '../output/printer.ts';
import { formatDuration } from '../output/quantities.ts';
import { printTable } from '../output/table.ts';

/** One element of `names` in the JSON. */
interface FqdnReport {
  /** Presentation form (RFC 1035), absolute. */
  readonly name: string;
  readonly address: string;
  /** `live`: expired, and still open to new connections because an open one uses it. */
  readonly state: 'valid' | 'live' | 'expired';
  /** Seconds; negative after expiry. */
  readonly expiresInSeconds: number;
  /** Seconds in which it takes new connections though expired, as things stand; 0: no open one uses it. */
  readonly inUseForSeconds: number;
  /** Answered by a resolver of the cluster: counts for every policy. */
  readonly isTrusted: boolean;
  /** Otherwise the policy that asked; 0: counts for none. */
  readonly policyId: number;
  readonly namespaceId: number;
  readonly selectorIds: readonly number[];
}

export const fqdnListCommand: CliCommand = {
  name: 'fqdn list',
  summary: 'names in the cache, their addresses and when they expire',
  configure: (command) => void command.addOption(nameOption()),
  run: async ({ settings, out, notes, wantsJson, signal }, options): Promise<ExitCode> => {
    const namePattern = typeof options['name'] === 'string' ? options['name'] : '';
    using admin = await connectAdmin(settings, signal, wantsJson ? null : notes);
    const names: FqdnReport[] = [];
    const pages = admin.client.serverStream(AdminService.listFqdn, { namePattern }, signal);
    for await (const page of pages) names.push(...page.entries.flatMap(reportOf));
    names.sort((left, right) => (sortKey(left) < sortKey(right) ? -1 : 1));
    if (wantsJson) out.json({ answeredBy: admin.answeredBy, names });
    else print(out, names);
    return exitCode.ok;
  },
};

const sortKey = ({ name, address }: FqdnReport): string =>
  `${name.split('.').toReversed().join('.')} ${address}`;

function reportOf({
  mapping,
  expiresInS,
  selectorIds,
  inUseForS,
}: FqdnEntry): readonly FqdnReport[] {
  if (mapping === null || mapping.address.length !== 16) return [];
  return [
    {
      name: nameToText(mapping.name),
      address: formatAddress(mapping.address),
      state: expiresInS > 0 ? 'valid' : inUseForS > 0 ? 'live' : 'expired',
      expiresInSeconds: expiresInS,
      inUseForSeconds: inUseForS,
      isTrusted: mapping.trusted,
      policyId: mapping.policyId,
      namespaceId: mapping.namespaceId,
      selectorIds,
    },
  ];
}

function print(out: Printer, names: readonly FqdnReport[]): void {
  printTable(
    out,
    [
      { title: 'NAME' },
      { title: 'ADDRESS' },
      { title: 'STATE' },
      { title: 'EXPIRES', isNumeric: true },
      { title: 'IN USE FOR', isNumeric: true },
      { title: 'COUNTS FOR' },
      { title: 'SELECTORS', isNumeric: true },
    ],
    names.map((entry) => [
      entry.name,
      entry.address,
      entry.state,
      entry.expiresInSeconds > 0 ? formatDuration(entry.expiresInSeconds * 1000) : '-',
      entry.inUseForSeconds > 0 ? formatDuration(entry.inUseForSeconds * 1000) : '-',
      entry.isTrusted ? 'all' : entry.policyId === 0 ? 'none' : `policy ${entry.policyId}`,
      String(entry.selectorIds.length),
    ]),
  );
}
