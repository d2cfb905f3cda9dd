// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { withoutDatapath } from './start-failure.ts';

const failing = (): never => {
  throw new Error('what the verifier says');
};

test('a kernel that has all is not blamed', async () => {
  await assert.rejects(withoutDatapath('/absent', failing), ({ message }: Error) => {
    assert.match(message, /NO POLICY IS ENFORCED on this node: what the verifier says;/);
    return true;
  });
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
