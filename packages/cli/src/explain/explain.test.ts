// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cli } from '../../test/run-cli.ts';
import { exitCode } from '../exit-codes.ts';
import { type CatalogueEntry, catalogue, codeNames, entriesOf } from './catalogue.ts';

const rows: readonly { code: string; says: readonly RegExp[] }[] = [
  {
    code: 'agent-away',
    says: [/^agent-away \(degradation, warning\)\n/, /\n {2}fix: start the agent/],
  },
  { code: 'fqdn-without-dns', says: [/\(diagnostic, warning\)/, /rules\.dns/] },
  { code: 'drop_no_match', says: [/^drop_no_match \(drop-reason, info\)\n/, /observe/] },
  { code: 'no_match', says: [/^drop_no_match /] },
  { code: 'upstream-error', says: [/dns-outcome/] },
  { code: 'over-endpoint-rate', says: [/query-verdict/, /queriesPerSecond/] },
  { code: 'ring-full', says: [/lost-events/] },
  { code: 'tandem_mark', says: [/^TANDEM_MARK \(error, error\)/] },
  { code: 'link-judge-local-in-ipv4', says: [/doctor-check/] },
  { code: 'PolicyInvalid', says: [/event-reason/] },
  { code: 'Valid', says: [/condition/] },
  { code: 'ipvs', says: [/^ipvs \(degradation, critical\)/, /\n\nipvs \(doctor-check, error\)/] },
];

for (const { code, says } of rows) {
  test(`explain ${code}`, async () => {
    const run = await cli(['explain', code]);
    assert.equal(run.code, exitCode.ok, run.stderr);
    for (const text of says) assert.match(run.stdout, text);
  });
}

test('each code is explained: kind, severity, meaning and fix', async () => {
  for (const code of codeNames) {
    const run = await cli(['explain', code]);
    assert.equal(run.code, exitCode.ok, `${code}: ${run.stderr}`);
    const text = run.stdout.replaceAll(/\s+/g, ' ');
    for (const { kind, severity, meaning, fix } of entriesOf(code)) {
      for (const part of [`${code} (${kind}, ${severity})`, meaning, fix]) {
        assert.ok(text.includes(part), `${code}: ${part}\n${run.stdout}`);
      }
    }
  }
});

test('a misspelt code is an error of usage that names the nearest one', async () => {
  for (const argv of [
    ['explain', 'agent-awya'],
    ['explain', 'agent-awya', '-o', 'json'],
  ]) {
    const run = await cli(argv);
    assert.equal(run.code, exitCode.usage);
    assert.match(run.stderr, /no code agent-awya; did you mean agent-away\?/);
    assert.equal(run.stdout, '');
  }
});

test('without a code all are listed, one line each', async () => {
  const run = await cli(['explain']);
  const [head, ...lines] = run.stdout.trimEnd().split('\n');
  assert.match(head ?? '', /^CODE +KIND +SEVERITY$/);
  assert.equal(lines.length, catalogue.length);
});

test('JSON has the same codes', async () => {
  const one = JSON.parse((await cli(['explain', 'ipvs', '-o', 'json'])).stdout) as {
    codes: CatalogueEntry[];
  };
  assert.deepEqual(
    one.codes.map(({ kind }) => kind),
    ['degradation', 'doctor-check'],
  );
  const all = JSON.parse((await cli(['explain', '-o', 'json'])).stdout) as typeof one;
  assert.deepEqual(all.codes, catalogue);
});

test('texts are clauses: no capital letter of a sentence, no full stop', () => {
  assert.ok(codeNames.length > 180, `${codeNames.length} codes`);
  const wrong = catalogue.filter(
    ({ meaning, fix }) =>
      /^[A-Z][a-z]/.test(meaning.replace(/^(DNS|IPv[46]|ICMP|TCP|VLAN) /, '')) ||
      [meaning, fix].some((text) => text.length < 4 || /\.$|\s{2}/.test(text)),
  );
  const proper = /^(Namespace|Node|Pod|Service|Services)\b/;
  assert.deepEqual(
    wrong.filter(({ meaning }) => !proper.test(meaning)),
    [],
  );
});
