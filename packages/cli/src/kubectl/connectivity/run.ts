// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `kubectl tandem connectivity test`: makes its pods, runs the checks one after the other, and takes all away again. */

import { writeFileSync } from 'node:fs';
import { TandemError } from '@tandem/runtime/tandem-error';
import { usageError } from '../../errors.ts';
import { type ExitCode, exitCode } from '../../exit-codes.ts';
import type { Printer, Style } from '../../output/printer.ts';
import { findNodes } from '../ask-nodes.ts';
import type { PluginContext } from '../context.ts';
import { type Kubectl, reasonOf } from '../kubectl.ts';
import type { NodePods } from '../node-pods.ts';
import { type Check, type CheckContext, type CheckResult, checks, Skipped } from './checks.ts';
import { junit } from './junit.ts';
import { clients, ownLabel, serverName, testObjects } from './objects.ts';
import { ClientPods } from './probe.ts';

export interface ConnectivityOptions {
  /** Names of checks; empty: all. */
  readonly tests: readonly string[];
  readonly namespace: string;
  /** NAME:PORT outside of the cluster. */
  readonly external: { readonly name: string; readonly port: number };
  readonly junitFile: string | undefined;
  readonly isKept: boolean;
}

/** Pods are waited for, and the end of a namespace is. */
const changeTimeoutMs = 120_000;

const styles: Readonly<Record<CheckResult['outcome'], Style>> = {
  PASS: 'good',
  FAIL: 'bad',
  SKIP: 'warning',
};

export async function runConnectivity(
  context: PluginContext,
  options: ConnectivityOptions,
): Promise<ExitCode> {
  const { kubectl, out, notes, wantsJson } = context;
  const chosen = chooseChecks(options.tests);
  const nodes = (await findNodes(kubectl, context.nodes)).filter(({ pods }) =>
    pods.some((pod) => pod.isReady),
  );
  const results: CheckResult[] = [];
  try {
    const setup = await setUp(kubectl, nodes, options.namespace, notes);
    for (const [i, check] of chosen.entries()) {
      if (context.signal.aborted) break;
      const result = await runCheck(check, { ...setup, external: options.external });
      results.push(result);
      if (!wantsJson) printResult(out, `[${i + 1}/${chosen.length}]`, check, result);
    }
  } finally {
    // Of an interrupted run too: the signal ends commands of the test, not of what clears up after it.
    if (!options.isKept) await tearDown(kubectl.withoutSignal(), options.namespace);
  }
  if (options.junitFile !== undefined) writeFileSync(options.junitFile, junit(results));
  const count = (outcome: CheckResult['outcome']): number =>
    results.filter((each) => each.outcome === outcome).length;
  const isWhole = results.length === chosen.length && count('FAIL') === 0;
  if (wantsJson) out.json({ isPassed: isWhole, results });
  else out.line(`${count('PASS')} passed, ${count('FAIL')} failed, ${count('SKIP')} skipped`);
  return isWhole ? exitCode.ok : exitCode.problem;
}

function chooseChecks(names: readonly string[]): readonly Check[] {
  const unknown = names.find((name) => !checks.some((check) => check.name === name));
  if (unknown !== undefined) {
    throw usageError(`no test ${unknown}: there are ${checks.map(({ name }) => name).join(', ')}`);
  }
  return names.length === 0 ? checks : checks.filter(({ name }) => names.includes(name));
}

function printResult(out: Printer, number: string, check: Check, result: CheckResult): void {
  const { outcome, seen, ms } = result;
  const time = `${(ms / 1000).toFixed(1)} s`;
  out.line(
    `${number} `,
    { text: outcome, style: styles[outcome] },
    `  ${check.name}: ${check.claim} (${time})`,
  );
  if (outcome !== 'PASS') out.line(`        ${seen}`);
}

async function runCheck(check: Check, context: CheckContext): Promise<CheckResult> {
  const startMs = performance.now();
  const end = (outcome: CheckResult['outcome'], seen: string): CheckResult => ({
    ...{ name: check.name, outcome, seen },
    ms: Math.round(performance.now() - startMs),
  });
  try {
    return end('PASS', await check.run(context));
  } catch (error) {
    const { message } = error as Error;
    return end(error instanceof Skipped ? 'SKIP' : 'FAIL', message);
  }
}

async function setUp(
  kubectl: Kubectl,
  nodes: readonly NodePods[],
  namespace: string,
  notes: Printer,
): Promise<Omit<CheckContext, 'external'>> {
  const [near, far = near] = nodes;
  const image = near?.pods.find(({ process }) => process === 'agent')?.image ?? '';
  if (near === undefined || far === undefined || image === '')
    throw usageError('no node has a ready agent: see kubectl tandem status');
  await tearDown(kubectl, namespace);
  notes.line(
    `pods of ${image} on ${near.node}${far === near ? '' : ` and ${far.node}`}, in namespace ${namespace}`,
  );
  const apply = (object: object): Promise<void> => must(kubectl, ['apply', '--filename=-'], object);
  const objects = testObjects({ namespace, image, nodes: [near.node, far.node] });
  await apply({ apiVersion: 'v1', kind: 'List', items: objects });
  const pods = [serverName, ...clients].map((name) => `pod/${name}`);
  const where = `--namespace=${namespace}`;
  await must(kubectl, ['wait', where, '--for=condition=Ready', '--timeout=60s', ...pods]);
  const path = '--output=jsonpath={.status.podIP}';
  const { stdout } = await kubectl.run(['get', where, 'pod', serverName, path]);
  return {
    pods: new ClientPods(kubectl, namespace),
    ...{ kubectl, namespace, apply },
    serverAddress: stdout.trim(),
    withdraw: (object) => must(kubectl, ['delete', '--filename=-', '--ignore-not-found'], object),
  };
}

/** Also of a run that was interrupted. @throws TandemError: another program made the namespace. */
async function tearDown(kubectl: Kubectl, namespace: string): Promise<void> {
  const [[label, value] = []] = Object.entries(ownLabel);
  const path = `--output=jsonpath={.metadata.labels.${label?.replaceAll('.', '\\.')}}`;
  const found = await kubectl.run(['get', 'namespace', namespace, path]);
  if (found.code !== 0) return;
  if (found.stdout !== value)
    throw usageError(`namespace ${namespace} is not of this test: choose another --namespace`);
  await must(kubectl, ['delete', 'namespace', namespace, '--ignore-not-found', '--wait=true']);
}

async function must(kubectl: Kubectl, args: readonly string[], object?: object): Promise<void> {
  const input = object === undefined ? {} : { input: JSON.stringify(object) };
  const result = await kubectl.run(args, { ...input, timeoutMs: changeTimeoutMs });
  if (result.code === 0) return;
  throw new TandemError('TANDEM_CLI_KUBECTL', `kubectl ${args[0]}: ${reasonOf(result)}`);
}
