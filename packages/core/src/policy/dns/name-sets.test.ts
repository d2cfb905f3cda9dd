// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { basicObjects, cnp, compileObjects, type Raw } from '../../../test/cluster-fixture.ts';
import { dnsNamesPerPolicyMax } from '../../limits.ts';
import type { Compiled } from '../model/desired.ts';
import type { DnsNames } from '../model/rule.ts';
import { allNames, NameSets, noNames } from './name-sets.ts';

function namesOf(first: number, count: number): DnsNames {
  const patterns = Array.from({ length: count }, (_, i) => {
    return { text: `n${first + i}.test.`, context: 'rules.dns' as const };
  });
  return { patterns, matchAll: false };
}

test('sets of the same lists are one set', () => {
  const sets = new NameSets();
  const [one, other] = [namesOf(0, 3), namesOf(2, 3)];
  const union = sets.union([one, other]);
  assert.deepEqual(
    [...union.patterns.keys()],
    ['n0.test.', 'n1.test.', 'n2.test.', 'n3.test.', 'n4.test.'],
  );
  assert.equal(sets.union([one, other]), union);
  const [left, right] = [sets.union([one]), sets.union([other])];
  const both = sets.intersect(left, right);
  assert.deepEqual([...both.patterns.keys()], ['n2.test.']);
  assert.equal(sets.intersect(left, right), both);
  assert.equal(sets.unite(left, right).patterns.size, 5);
  assert.equal(sets.unite(left, right), sets.unite(left, right));
  assert.equal(sets.intersect(left, allNames), left);
  assert.equal(sets.unite(left, allNames), allNames);
  assert.equal(sets.union([one, { patterns: [], matchAll: true }]), allNames);
  assert.equal(sets.isFull, false);
});

test('one set may be of any size, several have a bound', () => {
  const sets = new NameSets();
  const large = namesOf(0, dnsNamesPerPolicyMax + 1);
  assert.equal(sets.union([large]).patterns.size, dnsNamesPerPolicyMax + 1);
  assert.equal(sets.isFull, false);
  assert.equal(sets.union([large, namesOf(0, 1)]), noNames);
  assert.equal(sets.isFull, true);
});

/** A policy that lets pods ask any server for \`names\`, and \`servers\` each for one more of its own. */
function policyWith(names: number, servers: number, own: (server: number) => string): Raw {
  const ports = [{ port: '53', protocol: 'ANY' }];
  const dns = Array.from({ length: names }, (_, i) => ({ matchName: `n${i}.test` }));
  return cnp('shop/p', {
    endpointSelector: { matchLabels: { app: 'web' } },
    egress: [
      { toPorts: [{ ports, rules: { dns } }] },
      ...Array.from({ length: servers }, (_, i) => ({
        toCIDR: [`198.51.100.${i}/32`],
        toPorts: [{ ports, rules: { dns: [{ matchName: own(i) }] } }],
      })),
    ],
  });
}

const codes = ({ diagnostics }: Compiled): readonly string[] => diagnostics.map(({ code }) => code);

test('servers that each have many names of their own are no reason to run out of memory', () => {
  const names = 1000;
  const servers = Math.ceil(dnsNamesPerPolicyMax / names);
  const own = (server: number): string => `own${server}.test`;
  const few = compileObjects([...basicObjects, policyWith(names, servers - 2, own)]);
  assert.deepEqual(codes(few), []);
  assert.equal(few.dnsServers.length, 2 * (servers - 1), 'of both protocols, and the wildcard');
  const many = compileObjects([...basicObjects, policyWith(names, servers, own)]);
  assert.deepEqual(codes(many), ['dns-servers-not-listed']);
  assert.match(many.diagnostics[0]?.message ?? '', /more than 65536 names for all servers/);
  assert.deepEqual(many.dnsServers, [], 'queries are dropped: the verdict is to ask by name');
});
