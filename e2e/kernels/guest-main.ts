// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Runs in the guest: tries the kernel's features, loads the shipped programs one by one and all together, then runs
 * the tests of the datapath on real paths. Results go to files of the machine; lines to the console say how far it is.
 */

import { spawnSync } from 'node:child_process';
import { appendFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { basename, join } from 'node:path';
import { run } from 'node:test';
import type { TestEvent } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';
import { BpfError } from '@tandem/bpf-loader-node/errors';
import { probeFeatures } from '@tandem/bpf-loader-node/feature';
import { netnsCookie } from '@tandem/bpf-loader-node/netns';
import { BpfObject } from '@tandem/bpf-loader-node/object';
import { encodeConfig } from '@tandem/datapath/config';
import { hasIpv6 } from '@tandem/testing/namespace';
import {
  type DoctorText,
  factsFile,
  type GuestFacts,
  type ProgramVerdict,
  type TestResult,
  testsFile,
} from './results.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const objectPath = join(root, 'bpf/build/tandem.bpf.o');
const reasonLines = 6;
/** Emulation on a busy machine. */
const patience = 8;
const doctorMs = 120_000;
/**
 * V8 strips types by WebAssembly. In emulation its change to the optimizing compiler ended test files by "Check failed:
 * it->second.Size() > offset" (StackFrameIterator in Runtime_WasmTriggerTierUp, node 24.21).
 */
const execArgv = ['--no-wasm-dynamic-tiering'];
/** The shipped programs on real paths; both processes take longer in emulation than a run may. */
const testFiles = ['bpf/tests/hooks.namespace.test.ts', 'bpf/tests/devices.namespace.test.ts'];
/** On a kernel without IPv6 both processes start and serve: one test of them, for those above need both families. */
const testFilesWithoutIpv6 = ['e2e/scenarios/one-family.test.ts'];
const testsWithoutIpv6 = /^a kernel that refuses sockets of IPv6/;

function say(line: string): void {
  console.log(`kernels: ${line}`);
}

/** As the agent sets them: constants decide which branches the verifier sees. */
function config(): Uint8Array {
  return encodeConfig({
    mark: 0x1000,
    port: 10053,
    ownerUid: 65532,
    netnsCookie: netnsCookie(),
    staleNs: 100_000_000,
    fqdnIdleSeconds: 3600,
    fqdnLiveSeconds: 3600,
    fqdnLiveIdleSeconds: 3600,
    connectsPerSecond: 1000,
    datagramsPerSecond: 10_000,
    nat64Prefixes: [],
    quotaNamespace: 4096,
    quotaSelector: 1024,
  });
}

function reasonOf(error: unknown): string {
  if (!(error instanceof BpfError)) throw error;
  const log = (error.verifierLog ?? error.libbpfLog ?? error.message).trimEnd().split('\n');
  return log
    .filter(
      (line) =>
        !/^(processed \d+ insns|-- |libbpf: (failed to load object|prog '.*': failed))/.test(line),
    )
    .slice(-reasonLines)
    .join('\n');
}

/** Loads `program` alone, or all of them. */
function load(program: string | null): { readonly instructions: number; readonly reason: string } {
  using object = BpfObject.open(objectPath);
  object.setRodata('td_config', config());
  if (program !== null) {
    for (const { name } of object.programs()) object.setAutoload(name, name === program);
  }
  try {
    object.load();
  } catch (error) {
    return { instructions: 0, reason: reasonOf(error) };
  }
  const instructions = program === null ? 0 : object.program(program).info().verifiedInstructions;
  return { instructions, reason: '' };
}

function programNames(): string[] {
  using object = BpfObject.open(objectPath);
  return object.programs().map(({ name }) => name);
}

function verdict(name: string): ProgramVerdict {
  const { instructions, reason } = load(name);
  say(reason === '' ? `${name}: accepted, ${instructions} instructions` : `${name}: refused`);
  return { name, isAccepted: reason === '', instructions, reason };
}

/** One TestResult a line as they come, so that an end in the middle leaves what there was. */
async function runTests(directory: string): Promise<void> {
  const results = join(directory, testsFile);
  const only = hasIpv6 ? {} : { testNamePatterns: [testsWithoutIpv6] };
  for (const file of hasIpv6 ? testFiles : testFilesWithoutIpv6) {
    const started = performance.now();
    let failed = 0;
    const files = [join(root, file)];
    for await (const event of run({ files, concurrency: false, execArgv, ...only })) {
      if (event.type === 'test:stdout' || event.type === 'test:stderr') {
        process.stdout.write(event.data.message);
        continue;
      }
      if (event.type !== 'test:pass' && event.type !== 'test:fail') continue;
      const result = resultOf(event);
      if (event.data.details.type === 'suite') continue;
      appendFileSync(results, `${JSON.stringify(result)}\n`);
      if (result.outcome !== 'failed') continue;
      failed++;
      console.log(`failed: ${result.name}\n${result.error}`);
    }
    const seconds = Math.round((performance.now() - started) / 1000);
    say(`${file}: ${failed === 0 ? 'passed' : `${failed} failed`} in ${seconds} s`);
  }
}

type Finished = Extract<TestEvent, { type: 'test:pass' | 'test:fail' }>;

function resultOf(event: Finished): TestResult {
  const { name, file = '', skip } = event.data;
  const isFailed = event.type === 'test:fail';
  return {
    file: basename(file),
    // a file that ends without its tests' results is itself named
    name: name.replace(root, ''),
    outcome: isFailed ? 'failed' : skip === undefined ? 'passed' : 'skipped',
    error: isFailed ? String(event.data.details.error.cause).replaceAll(root, '') : '',
  };
}

/** As an operator runs it, from the sources: the guest may have no build. */
function doctor(): DoctorText {
  const args = ['--conditions=@tandem/source', '--disable-warning=ExperimentalWarning'];
  const command = [join(root, 'packages/cli/src/main.ts'), 'doctor', '--preflight'];
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [...execArgv, ...args, ...command],
    {
      encoding: 'utf8',
      timeout: doctorMs,
    },
  );
  return { code: status, text: `${stdout}${stderr}`.replaceAll(root, '') };
}

async function main(directory: string): Promise<void> {
  const missing = probeFeatures()
    .filter(({ supported }) => !supported)
    .map(({ name, reason = '' }) => ({ name, reason }));
  for (const { name, reason } of missing) say(`missing ${name}: ${reason}`);
  const programs = programNames().map(verdict);
  const facts: GuestFacts = {
    release: release(),
    missing,
    programs,
    objectError: load(null).reason,
    doctor: doctor(),
  };
  writeFileSync(join(directory, factsFile), JSON.stringify(facts));
  say(`doctor ends with ${facts.doctor.code}`);
  say(facts.objectError === '' ? 'the object loads' : 'the object does not load');
  if (facts.objectError === '') await runTests(directory);
}

process.env['TANDEM_TEST_PATIENCE'] = `${patience}`;
await main(process.argv[2] ?? '');
