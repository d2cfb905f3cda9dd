// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { get, request } from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '../test/temporary-directory.ts';
import { silentLogger } from './log.ts';
import { Metrics, metricSeriesMax, metricsMarkdown } from './metrics.ts';
import { type HttpAddress, MetricsServer, metricsReadMs } from './metrics-server.ts';

function lines(text: string, prefix: string): string[] {
  return text.split('\n').filter((line) => line.startsWith(prefix));
}

test('counters are read from the array at each scrape', async () => {
  const metrics = new Metrics();
  const counts = new Float64Array(new SharedArrayBuffer(16));
  metrics.arrayCounter({ name: 'tandem_queries_total', help: 'queries' }, counts, [
    { labels: { verdict: 'allowed' }, index: 0 },
    { labels: { verdict: 'denied' }, index: 1 },
  ]);
  counts[0] = 5;
  counts[1] = 2 ** 40;
  const want = (a: number, b: number): string[] => [
    `tandem_queries_total{verdict="allowed"} ${a}`,
    `tandem_queries_total{verdict="denied"} ${b}`,
  ];
  assert.deepEqual(lines(await metrics.text(), 'tandem_queries'), want(5, 2 ** 40));
  counts[0] = 6;
  assert.deepEqual(lines(await metrics.text(), 'tandem_queries'), want(6, 2 ** 40));
});

test('64-bit and 32-bit arrays, and series that come and go', async () => {
  const metrics = new Metrics();
  metrics.arrayCounter({ name: 'tandem_a_total', help: 'a' }, BigUint64Array.of(7n), [
    { index: 0 },
  ]);
  metrics.arrayCounter({ name: 'tandem_b_total', help: 'b' }, Uint32Array.of(9), [{ index: 0 }]);
  let maps = ['fqdn', 'policy'];
  metrics.gauges({ name: 'tandem_map_entries', help: 'entries' }, ['map'], () =>
    maps.map((map, index) => ({ labels: { map }, value: index })),
  );
  const text = await metrics.text();
  assert.deepEqual(lines(text, 'tandem_a'), ['tandem_a_total 7']);
  assert.deepEqual(lines(text, 'tandem_b'), ['tandem_b_total 9']);
  assert.equal(lines(text, 'tandem_map_entries').length, 2);
  maps = ['policy'];
  assert.deepEqual(lines(await metrics.text(), 'tandem_map_entries'), [
    'tandem_map_entries{map="policy"} 0',
  ]);
});

test('a histogram from bucket counts is cumulative, with sum and count', async () => {
  const metrics = new Metrics();
  const counts = Float64Array.of(99, 3, 2, 1, 4.5);
  for (const member of ['0', '1']) {
    metrics.arrayHistogram({
      name: 'tandem_latency_seconds',
      help: 'latency',
      bounds: [0.001, 0.01],
      counts,
      offset: 1,
      sum: () => counts[4]!,
      labels: { member },
    });
  }
  assert.deepEqual(lines(await metrics.text(), 'tandem_latency_seconds').slice(0, 5), [
    'tandem_latency_seconds_bucket{member="0",le="0.001"} 3',
    'tandem_latency_seconds_bucket{member="0",le="0.01"} 5',
    'tandem_latency_seconds_bucket{member="0",le="+Inf"} 6',
    'tandem_latency_seconds_sum{member="0"} 4.5',
    'tandem_latency_seconds_count{member="0"} 6',
  ]);
  assert.match(await metrics.text(), /# TYPE tandem_latency_seconds histogram\n/);
  assert.equal(lines(await metrics.text(), 'tandem_latency_seconds').length, 10);
});

test('too many series are cut and counted; label values are escaped', async () => {
  const metrics = new Metrics();
  metrics.gauges({ name: 'tandem_pods', help: 'pods' }, ['pod'], () =>
    Array.from({ length: metricSeriesMax + 5 }, (_, index) => ({
      labels: { pod: `p\u001b"${index}` },
      value: 1,
    })),
  );
  const text = await metrics.text();
  assert.equal(lines(text, 'tandem_pods').length, metricSeriesMax);
  assert.ok(text.includes('tandem_pods{pod="p\\\\u001b\\"0"} 1'));
  const next = await metrics.text();
  assert.deepEqual(lines(next, 'tandem_metrics_series'), ['tandem_metrics_series_refused_total 5']);
});

test('the reference page lists what is registered', () => {
  const metrics = new Metrics();
  metrics.gauge({ name: 'tandem_b', help: 'a|b' }, () => 1);
  assert.deepEqual(
    metrics.describe().map(({ name, type }) => [name, type]),
    [
      ['tandem_b', 'gauge'],
      ['tandem_metrics_series_refused_total', 'counter'],
    ],
  );
  assert.ok(metricsMarkdown(metrics).includes('| `tandem_b` | gauge |  | a\\|b |'));
});

interface Answer {
  readonly status: number | undefined;
  readonly body: string;
}

function fetchText(options: object, path: string, method: string = 'GET'): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const call = method === 'GET' ? get : request;
  const sent = call({ ...options, path, method, agent: false }, (response) => {
    let body = '';
    response.on('data', (chunk: Buffer) => {
      body += chunk.toString();
    });
    response.on('end', () => resolve({ status: response.statusCode, body }));
  });
  sent.on('error', reject);
  sent.end();
  return promise;
}

async function metricsServer(
  address: HttpAddress,
): Promise<MetricsServer & AsyncDisposable & { problems: string[] }> {
  const metrics = new Metrics();
  metrics.addProcessMetrics();
  const problems: string[] = [];
  const server = new MetricsServer({
    address,
    metrics,
    health: () => [],
    readiness: () => problems,
    log: silentLogger(),
  });
  await server.start();
  return Object.assign(server, { problems, [Symbol.asyncDispose]: () => server.stop() });
}

test('metrics, health and readiness over TCP', async () => {
  await using server = await metricsServer({ kind: 'tcp', host: '127.0.0.1', port: 0 });
  const options = { host: '127.0.0.1', port: server.port };
  const metrics = await fetchText(options, '/metrics?x=1');
  assert.equal(metrics.status, 200);
  assert.match(metrics.body, /process_cpu_seconds_total/);
  assert.deepEqual(await fetchText(options, '/healthz'), { status: 200, body: 'ok\n' });
  server.problems.push('no policy yet');
  assert.deepEqual(await fetchText(options, '/readyz'), { status: 503, body: 'no policy yet\n' });
  assert.equal((await fetchText(options, '/etc/passwd')).status, 404);
  assert.equal((await fetchText(options, '/metrics', 'POST')).status, 405);
  assert.deepEqual(await fetchText(options, '/healthz', 'HEAD'), { status: 200, body: '' });
});

test('who asks again and again does not have metrics read each time, and sees them grow', async () => {
  const metrics = new Metrics();
  let readings = 0;
  metrics.gauge({ name: 'tandem_readings', help: 'of this' }, () => (readings += 1));
  const server = new MetricsServer({
    address: { kind: 'tcp', host: '127.0.0.1', port: 0 },
    metrics,
    health: () => [],
    readiness: () => [],
    log: silentLogger(),
  });
  await server.start();
  try {
    const options = { host: '127.0.0.1', port: server.port };
    const begunMs = performance.now();
    const answers: Answer[] = [];
    let requests = 0;
    // as fast as it answers, for longer than two readings are apart
    while (performance.now() - begunMs < 2.5 * metricsReadMs) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      answers.push(await fetchText(options, '/metrics'));
      requests += 1;
    }
    const tookMs = performance.now() - begunMs;
    assert.ok(readings >= 2 && readings <= tookMs / metricsReadMs + 1, `${readings}`);
    assert.ok(requests > 2 * readings, `${requests} requests, ${readings} readings`);
    assert.ok(answers.every(({ status }) => status === 200));
    assert.match(answers.at(-1)?.body ?? '', new RegExp(`^tandem_readings ${readings}$`, 'm'));
  } finally {
    await server.stop();
  }
});

test('the same on a unix socket; idle connections do not keep it from stopping', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'metrics.sock');
  await using _server = await metricsServer({ kind: 'unix', path });
  assert.equal((await fetchText({ socketPath: path }, '/healthz')).status, 200);
  const idle = net.connect({ path });
  idle.on('error', () => {});
});

test('a port in use is an error that names it', async () => {
  await using server = await metricsServer({ kind: 'tcp', host: '127.0.0.1', port: 0 });
  const address: HttpAddress = { kind: 'tcp', host: '127.0.0.1', port: server.port };
  await assert.rejects(metricsServer(address), new RegExp(`port ${server.port} for metrics`));
});
