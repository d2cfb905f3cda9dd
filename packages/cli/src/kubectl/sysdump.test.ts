// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type ExitCode, exitCode } from '../exit-codes.ts';
import { Printer } from '../output/printer.ts';
import { Kubectl } from './kubectl.ts';
import { outputOf, runSysdump } from './sysdump.ts';

const directory = mkdtempSync(join(tmpdir(), 'tandem-sysdump-'));
after(() => rmSync(directory, { recursive: true, force: true }));

const ours = {
  metadata: {
    ...{ name: 'tandem-agent-x', namespace: 'kube-system' },
    labels: { 'app.kubernetes.io/name': 'tandem-agent' },
  },
  spec: { nodeName: 'node-a' },
  status: { containerStatuses: [{ state: { running: {} }, ready: true, restartCount: 0 }] },
};
const listOf = (...items: readonly object[]): string => JSON.stringify({ items });
const web = { metadata: { name: 'web-0', namespace: 'shop' } };
const event = { metadata: { name: 'gone-1.17f' }, involvedObject: { name: 'gone-1' } };

/** A cluster of one degraded node. `pods`, `policies`: what lists them. */
async function dump(
  target: string,
  pods: string,
  policies = `echo '${listOf()}'`,
): Promise<ExitCode> {
  const program = join(directory, 'kubectl');
  const script = `case "$*" in
"get nodes "*) echo '${listOf({ metadata: { name: 'node-a' } })}' ;;
"get pods --all-namespaces --selector="*) echo '${listOf(ours)}' ;;
"get pods "*) ${pods} ;;
"get events "*) echo '${listOf(event)}' ;;
"get ciliumnetworkpolicies"*) ${policies} ;;
"get leases"*) echo 'error: forbidden' >&2; exit 1 ;;
"get "*) echo '{"items":[]}' ;;
"exec "*" status") echo '{"node":"node-a"}'; echo 'command terminated with exit code 1' >&2; exit 1 ;;
"exec "*) echo '{"pod":"shop/web-0"}' ;;
"logs "*) echo 'shop/web-0 after gone-1' ;;
esac`;
  writeFileSync(program, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const stream = {
    ...{ isTTY: false, writableNeedDrain: false, write: () => true },
  } as unknown as ConstructorParameters<typeof Printer>[0];
  const { signal } = new AbortController();
  const kubectl = new Kubectl({ flags: [], timeoutMs: 10_000, signal, program });
  const context = {
    ...{ kubectl, out: new Printer(stream, {}), notes: new Printer(stream, {}), signal },
    ...{ wantsJson: false, nodes: [], nowMs: () => 0 },
  };
  return await runSysdump(context, { directory: target, isRedacted: true });
}

test('a redacted sysdump has no name, also not of a pod that events alone know, and says what is missing', async () => {
  const target = join(directory, 'one');
  assert.equal(await dump(target, `echo '${listOf(web, ours)}'`), exitCode.problem);
  const files = readdirSync(target, { recursive: true, encoding: 'utf8' });
  for (const file of files.filter((each) => /\.\w+$/.test(each))) {
    const text = file + readFileSync(join(target, file), 'utf8');
    for (const name of ['node-a', 'web-0', 'gone-1', 'shop/'])
      assert.ok(!text.includes(name), `${name} in ${text}`);
  }
  const status = files.find((each) => each.endsWith('status.json')) ?? '';
  assert.match(readFileSync(join(target, status), 'utf8'), /^\{"node":"<name:\d+>"\}\n$/);
  assert.match(readFileSync(join(target, 'errors.txt'), 'utf8'), /^cluster\/leases.*forbidden\n$/);
});

test('names that are not known cannot be replaced: nothing is written', async () => {
  const target = join(directory, 'two');
  await assert.rejects(
    dump(target, "echo 'error: forbidden' >&2; exit 1"),
    /--redact needs .*cluster\/pods.json cannot be had: error: forbidden/,
  );
  assert.ok(!existsSync(target));
  // The status of each node names policies.
  await assert.rejects(
    dump(target, `echo '${listOf(web, ours)}'`, "echo 'error: forbidden' >&2; exit 1"),
    /ciliumnetworkpolicies.cilium.io.json cannot be had: error: forbidden/,
  );
  assert.ok(!existsSync(target));
});

test('a document of a sysdump is one, also that of a command that found faults', async () => {
  const { signal } = new AbortController();
  const shell = (script: string): Kubectl =>
    new Kubectl({ flags: ['-c', script], timeoutMs: 10_000, signal, program: '/bin/sh' });
  const degraded = `echo '{"health":"degraded"}'; echo 'command terminated with exit code 1' >&2; exit 1`;
  const found = await shell(degraded).run([]);
  assert.deepEqual(outputOf('nodes/a/status.json', found), {
    ...{ file: 'nodes/a/status.json', text: '{"health":"degraded"}\n', error: '' },
  });
  assert.match(outputOf('nodes/a/status.txt', found).text ?? '', /exit code 1/);
  const down = await shell("printf 'tandem: no answer\\ncommand ended\\n' >&2; exit 1").run([]);
  assert.deepEqual(outputOf('nodes/a/fqdn.json', down), {
    ...{ file: 'nodes/a/fqdn.json', text: null, error: 'tandem: no answer; command ended' },
  });
  const none = await shell('exit 0').run([]);
  assert.equal(outputOf('nodes/a/events.json', none).text, '', 'there are no events');
});
