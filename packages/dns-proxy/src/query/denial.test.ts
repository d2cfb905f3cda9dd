// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rcodeNxDomain, rcodeRefused } from '@tandem/core/dns/constants';
import { nameFromText } from '@tandem/core/dns/name';
import { loadName, QueryView } from '@tandem/core/dns/query';
import { Denial, type DenialMode } from './denial.ts';

const suffixes = ['cluster.local', 'Corp.Example.com.', 'no..name', '.'];
const cases: [DenialMode, string, number][] = [
  ['search', 'www.allowed.test.default.svc.cluster.local', rcodeNxDomain],
  ['search', 'www.allowed.test.corp.example.com', rcodeNxDomain],
  ['search', 'corp.example.com', rcodeNxDomain],
  ['search', 'www.example.com', rcodeRefused],
  ['search', 'denied.test', rcodeRefused],
  ['refused', 'www.allowed.test.default.svc.cluster.local', rcodeRefused],
  ['refused', 'denied.test', rcodeRefused],
  ['nxdomain', 'www.allowed.test.default.svc.cluster.local', rcodeNxDomain],
  ['nxdomain', 'denied.test', rcodeNxDomain],
];

test('by default a denied name does not exist under a search suffix, and is refused elsewhere', () => {
  const view = new QueryView({ low: 1, high: 2 });
  for (const [mode, name, want] of cases) {
    const wire = nameFromText(name);
    assert.ok(wire !== null && loadName(view, wire, 0, wire.length));
    assert.equal(new Denial({ mode, suffixes }).rcodeFor(view), want, `${mode} ${name}`);
  }
});
