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
  /** Seconds; negative after expiry. */
  readonly expiresInSeconds: number;
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

function reportOf({ mapping, expiresInS, selectorIds }: FqdnEntry): readonly FqdnReport[] {
  if (mapping === null || mapping.address.length !== 16) return [];
  return [
    {
      name: nameToText(mapping.name),
      address: formatAddress(mapping.address),
      expiresInSeconds: expiresInS,
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
      { title: 'EXPIRES', isNumeric: true },
      { title: 'COUNTS FOR' },
      { title: 'SELECTORS', isNumeric: true },
    ],
    names.map((entry) => [
      entry.name,
      entry.address,
      entry.expiresInSeconds > 0 ? formatDuration(entry.expiresInSeconds * 1000) : 'expired',
      entry.isTrusted ? 'all' : entry.policyId === 0 ? 'none' : `policy ${entry.policyId}`,
      String(entry.selectorIds.length),
    ]),
  );
}
