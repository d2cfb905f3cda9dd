// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The suites of upstream that `./run cluster conformance` runs, and how the output of each is read. */

import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { kubectl } from './kubectl.ts';
import type { Layout } from './layout.ts';
import { moduleSources, networkPolicyApiVersion, type ProgramName } from './programs.ts';

export const suiteNames = ['network-policy', 'cluster-network-policy'] as const;
export type SuiteName = (typeof suiteNames)[number];

export interface Outcome {
  readonly spec: string;
  readonly result: 'passed' | 'failed' | 'skipped';
  readonly seconds: number;
}

export interface Suite {
  readonly title: string;
  /** Start of the name of its result in docs/results, before the CNI and the date. */
  readonly fileName: string;
  readonly program: ProgramName;
  /** Tests that are left out, and why; '': none. */
  readonly leftOut: string;
  /** A run of all specs that has fewer has lost some. */
  readonly specsMin: number;
  /** Beside the kubeconfig. `reportFile`: for the report that the suite itself writes, if it does. */
  args(focus: string, reportFile: string): readonly string[];
  /** Takes line after line of the output; gives what ended with this one. */
  reader(): (line: string) => Outcome | null;
  /** Called once Tandem is installed. */
  prepare?(layout: Layout): Promise<void>;
}

const networkPolicy: Suite = {
  title: "Kubernetes' NetworkPolicy specs",
  fileName: 'network-policy-specs',
  program: 'netpol',
  leftOut: 'SCTPConnectivity, for which the bed has no kernel module',
  specsMin: 47,
  args: (focus) => [
    // Without focus or skip the suite skips each `[Feature:...]`, which is all but two of them.
    ...['--provider=skeleton', '--ginkgo.v', '--ginkgo.skip=SCTPConnectivity'],
    ...(focus === '' ? [] : [`--ginkgo.focus=${focus}`]),
  ],
  reader: () => {
    let current = '';
    return (raw) => {
      const line = stripVTControlCharacters(raw);
      const title = /\[sig-network\] (?:Netpol|NetworkPolicy\S*) (.*)$/.exec(line)?.[1];
      if (title !== undefined && !line.startsWith('•')) current = title.trim();
      const ended = /^• (\[FAILED\] )?\[([0-9.]+) seconds\]/.exec(line);
      if (ended === null) return null;
      const result = ended[1] === undefined ? 'passed' : 'failed';
      return { spec: current, result, seconds: Number(ended[2]) };
    };
  },
};

const results = { PASS: 'passed', FAIL: 'failed', SKIP: 'skipped' } as const;

const clusterNetworkPolicy: Suite = {
  title: `Conformance suite of the Network Policy API ${networkPolicyApiVersion}`,
  fileName: 'cluster-network-policy-conformance',
  program: 'network-policy-api',
  leftOut: 'the feature ClusterNetworkPolicyEgressNodePeers, which Tandem does not support',
  specsMin: 105,
  args: (focus, reportFile) => [
    // results as they come
    '-test.v=test2json',
    '-conformance-profiles=ClusterNetworkPolicy',
    '-supported-features=ClusterNetworkPolicy,ClusterNetworkPolicyNamedPorts',
    `-report-output=${reportFile}`,
    ...['-organization=tandem', '-project=tandem', '-version=main'],
    ...(focus === '' ? [] : [`-test.run=conformance/${focus}`]),
  ],
  reader: () => {
    const withParts = new Set<string>();
    return (line) => {
      const ended = /--- (PASS|FAIL|SKIP): conformance\/(\S+) \(([0-9.]+)s\)/.exec(line);
      if (ended === null) return null;
      const [, word, name = '', seconds] = ended;
      const [test = '', part] = name.split('/', 2);
      if (part === undefined && withParts.has(test)) return null;
      withParts.add(test);
      const spec = part === undefined ? test : `${test}: ${part.replaceAll('_', ' ')}`;
      return { spec, result: results[word as keyof typeof results], seconds: Number(seconds) };
    };
  },
  // After Tandem: agents watch a kind whose definition comes while they run.
  prepare: defineClusterNetworkPolicy,
};

/** The experimental channel of the definition, which has the fields of the standard one too. */
export async function defineClusterNetworkPolicy(layout: Layout): Promise<void> {
  const file = 'config/crd/experimental/policy.networking.k8s.io_clusternetworkpolicies.yaml';
  const path = join(await moduleSources('network-policy-api'), file);
  await kubectl(layout, ['apply', '--server-side', '-f', path]);
}

export const suites: Readonly<Record<SuiteName, Suite>> = {
  'network-policy': networkPolicy,
  'cluster-network-policy': clusterNetworkPolicy,
};
