// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Metrics } from '@tandem/runtime/metrics';
import { counter, counterNames, createSharedCounters, observeLatency } from '../counters.ts';
import { parseMetricsAddress } from './address.ts';
import { addDnsMetrics } from './dns-metrics.ts';

test('every counter of the worker is in one metric', async () => {
  const metrics = new Metrics();
  const counters = createSharedCounters();
  for (const name of counterNames) counters[counter[name]] = 1000 + counter[name];
  addDnsMetrics(metrics, counters, 'agent');
  const text = await metrics.text();
  for (const name of counterNames) {
    const found = text.split('\n').filter((line) => line.endsWith(` ${1000 + counter[name]}`));
    assert.equal(found.length, 1, name);
    assert.match(found[0] ?? '', /^tandem_dns_[a-z_]+_total\{member="agent"[,}]/);
  }
  assert.ok(
    text.includes(
      `tandem_dns_queries_total{member="agent",verdict="denied"} ${1000 + counter.denied}`,
    ),
  );
  assert.match(text, /# HELP tandem_dns_learn_evicted_total addresses evicted/);
});

test('latencies are seconds', async () => {
  const metrics = new Metrics();
  const counters = createSharedCounters();
  addDnsMetrics(metrics, counters, 'dns-proxy');
  observeLatency(counters, 150);
  observeLatency(counters, 99_000_000);
  const text = await metrics.text();
  const bucket = (le: string): string =>
    `tandem_dns_latency_seconds_bucket{member="dns-proxy",le="${le}"}`;
  assert.ok(text.includes(`${bucket('0.0001')} 0\n`));
  assert.ok(text.includes(`${bucket('0.0002')} 1\n`));
  assert.ok(text.includes(`${bucket('5')} 1\n`));
  assert.ok(text.includes(`${bucket('+Inf')} 2\n`));
  assert.match(text, /tandem_dns_latency_seconds_sum\{member="dns-proxy"\} 99\.00015\n/);
});

test('metrics addresses', () => {
  assert.deepEqual(parseMetricsAddress('127.0.0.1:9100', 5), {
    kind: 'tcp',
    host: '127.0.0.1',
    port: 9100,
  });
  assert.deepEqual(parseMetricsAddress('[::1]:0', 5), { kind: 'tcp', host: '::1', port: 0 });
  assert.deepEqual(parseMetricsAddress('/run/m.sock', 5), {
    kind: 'unix',
    path: '/run/m.sock',
    groupId: 5,
  });
  for (const text of ['9100', 'localhost', ':9100', '127.0.0.1:99999', 'run/m.sock']) {
    assert.equal(parseMetricsAddress(text, 5), null, text);
  }
});
