// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `tandem endpoint list`: pods' addresses and the policy in force for them; from the pins if no process answers. */

import { formatAddress } from '@tandem/core/net/ip';
import { snapshotPaths } from '@tandem/dns-proxy/config';
import { readSavedPolicies } from '@tandem/dns-proxy/policy/saved-policy';
import type { EndpointEntry } from '@tandem/proto/gen/messages';
import { AdminService } from '@tandem/proto/gen/services';
import { decodePolicySnapshot } from '@tandem/proto/snapshot';
import { TandemError } from '@tandem/runtime/tandem-error';
import { connectAdmin, type ProcessName } from '../admin/connection.ts';
import type { CliCommand, CommandContext } from '../command.ts';
import { podOption } from '../command-options.ts';
import { type ExitCode, exitCode } from '../exit-codes.ts';
import { endpointFlagNames, readPinnedEndpoints } from '../node/pins.ts';
import { printTable } from '../output/table.ts';

/** One element of `endpoints` in the JSON. */
interface EndpointReport {
  readonly namespace: string;
  readonly pod: string;
  readonly address: string;
  readonly endpointId: number;
  readonly policyId: number;
  readonly classId: number;
  readonly namespaceId: number;
  readonly flags: readonly string[];
  readonly interface: string | null;
  readonly ifindex: number;
  /** Why it has no interface, as far as the process knows. */
  readonly problem: string | null;
}

export const endpointListCommand: CliCommand = {
  name: 'endpoint list',
  summary: 'pod addresses of the node and the policy in force for them',
  details:
    'Asks the agent, else the DNS proxy. When neither answers it reads the pinned map, with names from the policy snapshot.',
  configure: (command) => void command.addOption(podOption()),
  run: async (context, options): Promise<ExitCode> => {
    const pod = typeof options['pod'] === 'string' ? options['pod'] : '';
    const { answeredBy, endpoints } = await listEndpoints(context, pod);
    const sorted = endpoints.toSorted((left, right) =>
      `${left.namespace}/${left.pod}/${left.address}` <
      `${right.namespace}/${right.pod}/${right.address}`
        ? -1
        : 1,
    );
    if (context.wantsJson) context.out.json({ answeredBy, endpoints: sorted });
    else print(context, sorted);
    return exitCode.ok;
  },
};

async function listEndpoints(
  context: CommandContext,
  pod: string,
): Promise<{ answeredBy: ProcessName | 'pins'; endpoints: readonly EndpointReport[] }> {
  const { settings, signal, notes } = context;
  try {
    using admin = await connectAdmin(settings, signal, context.wantsJson ? null : notes);
    const endpoints: EndpointReport[] = [];
    for await (const page of admin.client.serverStream(
      AdminService.listEndpoints,
      { pod },
      signal,
    )) {
      endpoints.push(...page.endpoints.map(reportOf));
    }
    return { answeredBy: admin.answeredBy, endpoints };
  } catch (error) {
    const isUnreachable = error instanceof TandemError && error.code === 'TANDEM_CLI_UNREACHABLE';
    const pinned = isUnreachable ? readPinnedEndpoints(settings.bpffsDir) : null;
    if (pinned?.ok !== true) throw error;
    if (!context.wantsJson) {
      notes.line({ text: 'neither process answers: read from the pinned map', style: 'warning' });
    }
    const names = await snapshotNames(settings);
    const endpoints = pinned.value.map((endpoint): EndpointReport => {
      const address = formatAddress(endpoint.address);
      const { namespace = '', pod: name = '' } = names.get(address) ?? {};
      const { endpointId, policyId, classId, namespaceId, flags, vethIfindex } = endpoint;
      return {
        ...{ namespace, pod: name, address, endpointId, policyId, classId, namespaceId },
        flags: endpointFlagNames(flags),
        interface: null,
        ifindex: vethIfindex,
        problem: null,
      };
    });
    return { answeredBy: 'pins', endpoints: endpoints.filter((endpoint) => isOf(endpoint, pod)) };
  }
}

/** "namespace/pod" or "namespace/", as the processes filter. */
function isOf({ namespace, pod }: EndpointReport, filter: string): boolean {
  if (filter === '') return true;
  return filter.endsWith('/') ? `${namespace}/` === filter : `${namespace}/${pod}` === filter;
}

function reportOf(entry: EndpointEntry): EndpointReport {
  return {
    namespace: entry.namespace,
    pod: entry.pod,
    address: formatAddress(entry.address),
    endpointId: entry.endpointId,
    policyId: entry.policyId,
    classId: entry.classId,
    namespaceId: entry.namespaceId,
    flags: entry.flagNames,
    interface: entry.vethName || null,
    ifindex: entry.vethIfindex,
    problem: entry.problem || null,
  };
}

/** Names of the pods that have the addresses, by the newest policy that was saved; empty if none can be read. */
async function snapshotNames(
  settings: Parameters<typeof snapshotPaths>[0],
): Promise<ReadonlyMap<string, { namespace: string; pod: string }>> {
  const { snapshots } = await readSavedPolicies(snapshotPaths(settings));
  const decoded = snapshots[0] === undefined ? null : decodePolicySnapshot(snapshots[0]);
  if (decoded?.ok !== true) return new Map();
  return new Map(
    decoded.value.endpoints.map(({ address, namespace, pod }) => [
      formatAddress(address),
      { namespace, pod },
    ]),
  );
}

function print({ out }: CommandContext, endpoints: readonly EndpointReport[]): void {
  printTable(
    out,
    [
      { title: 'POD' },
      { title: 'ADDRESS' },
      { title: 'ENDPOINT', isNumeric: true },
      { title: 'POLICY', isNumeric: true },
      { title: 'CLASS', isNumeric: true },
      { title: 'INTERFACE' },
      { title: 'FLAGS' },
    ],
    endpoints.map(({ namespace, pod, address, endpointId, policyId, classId, ...rest }) => [
      pod === '' ? '-' : `${namespace}/${pod}`,
      address,
      String(endpointId),
      String(policyId),
      String(classId),
      rest.interface ?? (rest.ifindex === 0 ? 'none' : `if${rest.ifindex}`),
      rest.flags.length === 0 ? '-' : rest.flags.join(','),
    ]),
  );
  for (const { namespace, pod, address, problem } of endpoints) {
    if (problem === null) continue;
    out.line();
    out.line({ text: `${namespace}/${pod} ${address}`, style: 'bad' });
    out.line(`  ${problem}`);
  }
}
