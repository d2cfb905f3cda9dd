// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { TandemError } from './tandem-error.ts';

test('a TandemError stays itself', () => {
  const error = new TandemError('TANDEM_SYSTEM', 'message', { facts: { path: '/x' } });
  assert.equal(TandemError.from(error, 'attempt'), error);
  assert.deepEqual(error.facts, { path: '/x' });
});

test('an error of a system call keeps errno, system call and path', () => {
  try {
    readFileSync('/nonexistent/file');
    assert.fail('it cannot be read');
  } catch (caught) {
    const error = TandemError.from(caught, 'read the configuration');
    assert.equal(error.code, 'TANDEM_SYSTEM');
    assert.deepEqual(error.facts, { errno: 'ENOENT', syscall: 'open', path: '/nonexistent/file' });
    assert.match(error.message, /^read the configuration: ENOENT/);
    assert.equal(error.cause, caught);
  }
});

for (const { name, fields, facts } of [
  { name: 'SchemaError', fields: { code: 'TANDEM_DATAPATH_VERSION' }, facts: {} },
  {
    name: 'BpfError',
    fields: { code: 'TANDEM_BPF_FULL', errnoName: 'E2BIG', syscall: 'BPF_MAP_UPDATE_ELEM' },
    facts: { errno: 'E2BIG', syscall: 'BPF_MAP_UPDATE_ELEM' },
  },
  {
    name: 'DnsSocketError',
    fields: { code: 'TANDEM_SOCKET_SYSTEM', errnoName: 'EADDRINUSE', syscall: 'bind' },
    facts: { errno: 'EADDRINUSE', syscall: 'bind' },
  },
]) {
  test(`${name} keeps its code`, () => {
    const error = TandemError.from(Object.assign(new Error('text'), fields), 'attempt');
    assert.deepEqual([error.code, error.facts], [fields.code, facts]);
    assert.equal(error.message, 'attempt: text');
  });
}

test('anything else is unexpected, with its cause', () => {
  const cause = new TypeError('x is not a function');
  assert.equal(TandemError.from(cause).code, 'TANDEM_UNEXPECTED');
  assert.equal(TandemError.from(cause).cause, cause);
  assert.equal(TandemError.from('text', 'try').message, 'try: text');
});
