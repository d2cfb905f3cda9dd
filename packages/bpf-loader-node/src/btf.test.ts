// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as fc from 'fast-check';

import { objectPath } from '../test/fixture.ts';
import { btfTypes, decodeBtf, layouts } from './btf.ts';
import { BpfError } from './errors.ts';
import { BpfObject } from './object.ts';

const seed = 0x7a17;
const mutationRuns = 2000;

test('layouts are those of the compiler', () => {
  using object = BpfObject.open(objectPath('loader'));
  const structs = layouts(object);
  const sample = structs.get('sample');
  assert.ok(sample !== undefined);
  assert.equal(sample.size, 56);
  const plain = { count: 1, isSigned: false, structName: '' };
  const inner = { ...plain, structName: 'inner' };
  assert.deepEqual(Object.fromEntries(sample.fields), {
    kind: { ...plain, offset: 0, size: 4, elementSize: 4 },
    word: { ...plain, offset: 4, size: 4, elementSize: 4 },
    halves: { ...inner, offset: 4, size: 4, elementSize: 4 },
    name: { ...plain, offset: 8, size: 12, count: 12, elementSize: 1 },
    pairs: { ...inner, offset: 20, size: 12, count: 3, elementSize: 4 },
    flag: { ...plain, offset: 32, size: 1, elementSize: 1, bits: { offset: 0, size: 1 } },
    level: { ...plain, offset: 32, size: 1, elementSize: 1, bits: { offset: 1, size: 5 } },
    stamp: { ...plain, offset: 40, size: 8, elementSize: 8, isSigned: true },
    last: { ...plain, offset: 48, size: 4, elementSize: 4, isSigned: true },
  });
  assert.deepEqual([...(structs.get('inner')?.fields.keys() ?? [])], ['low', 'high']);
});

test('enumerators and variables', () => {
  using object = BpfObject.open(objectPath('loader'));
  const { enumerators, variables } = btfTypes(object);
  assert.equal(enumerators.get('SAMPLE_PLAIN'), 7);
  assert.equal(enumerators.get('SAMPLE_NEGATIVE'), -3);
  assert.deepEqual(variables.get('config'), {
    section: '.rodata',
    offset: 0,
    size: 8,
    structName: 'config',
  });
});

/** A BTF blob of one ENUM64, as later kernels and compilers make them. */
function enum64(low: number, high: number, isSigned: boolean): Uint8Array {
  const strings = Buffer.from('\0wide\0VALUE\0');
  const bytes = Buffer.alloc(24 + 24 + strings.length);
  const words = [24, 0, 24, 24, strings.length, 1, (isSigned ? 0x9300_0000 : 0x1300_0000) + 1, 8];
  bytes.writeUInt32LE(0x0001_eb9f, 0);
  words.forEach((word, i) => bytes.writeUInt32LE(word, 4 + 4 * i));
  [6, low, high].forEach((word, i) => bytes.writeUInt32LE(word, 36 + 4 * i));
  strings.copy(bytes, 48);
  return bytes;
}

test('64-bit enumerators, unless a number cannot hold them', () => {
  assert.equal(decodeBtf(enum64(5, 1, false)).enumerators.get('VALUE'), 2 ** 32 + 5);
  assert.equal(decodeBtf(enum64(0xffff_fffe, 0xffff_ffff, true)).enumerators.get('VALUE'), -2);
  assert.equal(decodeBtf(enum64(0, 0xffff_ffff, false)).enumerators.get('VALUE'), undefined);
});

test('a kernel’s own BTF decodes', async () => {
  const { readFileSync } = await import('node:fs');
  const types = decodeBtf(readFileSync('/sys/kernel/btf/vmlinux'));
  assert.ok((types.structs.get('task_struct')?.size ?? 0) > 1000);
  assert.equal(types.enumerators.get('BPF_MAP_TYPE_LPM_TRIE'), 11);
});

test('damaged BTF is a BpfError, whatever was damaged', (t) => {
  using object = BpfObject.open(objectPath('loader'));
  const good = object.btf();
  t.diagnostic(`seed ${seed}`);
  const change = fc.record({ at: fc.nat(good.length - 1), byte: fc.nat(255) });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 8 }), fc.nat(good.length), (changes, length) => {
      const bad = good.slice(0, changes.length % 2 === 0 ? good.length : length);
      for (const { at, byte } of changes) bad[at] = byte;
      try {
        decodeBtf(bad);
      } catch (error) {
        assert.ok(error instanceof BpfError && error.code === 'TANDEM_BPF_OPEN', String(error));
      }
    }),
    { seed, numRuns: mutationRuns },
  );
});
