// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Tests of code that works on the network namespace that its own process is in. */

import assert from 'node:assert/strict';
import { basename } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Namespace } from './namespace.ts';
import { tryRun } from './process.ts';
import { patience } from './wait.ts';

const variable = 'TANDEM_TEST_NAMESPACE';
/** Longer than one wait in vain (`waitFor`) that ends a test inside: its message is in the output then. */
const timeoutMs = 60_000 * patience;

/**
 * Runs the test file once more in a process inside a fresh namespace, where `body` defines the tests;
 * outside there is one test, which passes if all of those do.
 */
export function insideNamespace(meta: ImportMeta, body: () => void): void {
  if (process.env[variable] !== undefined) {
    body();
    return;
  }
  const file = fileURLToPath(meta.url);
  test(`${basename(file)} inside a namespace`, async (context) => {
    await using namespace = await Namespace.create('inside');
    const env: NodeJS.ProcessEnv = { ...process.env, [variable]: namespace.name };
    // Else the inner run would report to the outer runner in its own protocol.
    delete env['NODE_TEST_CONTEXT'];
    const args = [...process.execArgv, '--test-reporter=spec', file];
    const command = namespace.enter(process.execPath, args);
    const { status, stdout, stderr } = await tryRun(...command, { env, timeoutMs });
    for (const line of stdout.split('\n')) if (line.includes('✔')) context.diagnostic(line.trim());
    assert.equal(status, 0, `${stdout}${stderr}`);
  });
}
