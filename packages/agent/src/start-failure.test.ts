// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { TandemError } from '@tandem/runtime/tandem-error';
import { failureOnNode, withoutDatapath } from './start-failure.ts';

const failing = (): never => {
  throw new Error('what the verifier says');
};

test('a kernel that has all is not blamed', async () => {
  await assert.rejects(withoutDatapath('/absent', failing), ({ message }: Error) => {
    assert.match(message, /NO POLICY IS ENFORCED on this node: what the verifier says;/);
    return true;
  });
});

test('a DNS worker that the system fails is no bug; a bug is still one, and both say what is enforced', async () => {
  const codeOf = async (error: TandemError): Promise<string> => {
    const failure = await failureOnNode('/absent', error, 'the DNS worker failed');
    assert.match(
      failure.message,
      /^the DNS worker failed and NO POLICY IS ENFORCED on this node: /,
    );
    assert.ok(failure.message.includes(error.message));
    assert.equal(failure.message.includes('doctor'), failure.code !== error.code, failure.message);
    return failure.code;
  };
  const refused = new TandemError('TANDEM_BPF_SYSCALL', 'open the pin: EINVAL');
  assert.equal(await codeOf(refused), 'TANDEM_NOTHING_ENFORCED');
  for (const code of ['TANDEM_UNEXPECTED', 'TANDEM_BUG', 'TANDEM_WORKER_EXIT'] as const) {
    assert.equal(await codeOf(new TandemError(code, 'it ended')), code);
  }
});

test('features that are missing are named before what the verifier says', () => {
  // None of them can be used without capabilities.
  const script = `
    import { withoutDatapath } from ${JSON.stringify(new URL('start-failure.ts', import.meta.url).href)};
    const failing = () => { throw new Error('what the verifier says'); };
    await withoutDatapath('/absent', failing).catch(({ message }) => console.log(message));
  `;
  const node = ['--conditions=@tandem/source', '--disable-warning=ExperimentalWarning'];
  const said = execFileSync(
    'setpriv',
    [
      ...['--bounding-set=-all', '--inh-caps=-all', '--ambient-caps=-all'],
      ...[process.execPath, ...node, '--input-type=module', '-e', script],
    ],
    { encoding: 'utf8' },
  );
  assert.match(said, /features of the kernel are missing: .*tcx_link \(not permitted/);
  assert.match(said, /netfilter_link \(not permitted.*: what the verifier says;/);
  assert.ok(!said.includes('cgroup_bind'), 'what Tandem runs without');
});
