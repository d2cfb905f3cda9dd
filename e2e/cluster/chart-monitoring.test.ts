// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Rules and dashboard of the chart for Prometheus and Grafana: each alert fires when it should (promtool), and every metric that an
 * alert or the dashboard names is one that the product has, of that type and with these labels.
 */

import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { tryRun } from '@tandem/testing/process';
import { parse } from 'yaml';
import { metricsOfProduct, type ProductMetric } from '../kit/product-metrics.ts';
import { type ChartObject, chart, rendered, repository, template } from './helm-chart.ts';

const alertsFile = join(chart, 'files/monitoring/alerts.yaml');
const dashboardFile = join(chart, 'files/monitoring/dashboard.json');
const testsFile = fileURLToPath(new URL('monitoring/alerts-test.yaml', import.meta.url));
const everything = [
  ...['metrics.address=node', 'metrics.podMonitor.enabled=true'],
  ...['metrics.rules.enabled=true', 'metrics.dashboards.enabled=true'],
].flatMap((each) => ['--set', each]);
/** Labels that a target has by the chart's PodMonitor. */
const targetLabels = ['node', 'job', 'instance'];

interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: Readonly<Record<string, string>>;
}
interface AlertFile {
  readonly groups: readonly { readonly rules: readonly Alert[] }[];
}
interface Panel {
  readonly title: string;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
}
/** As a PodMonitor writes it. */
type Relabeling = Readonly<Record<string, unknown>>;
type Labels = Readonly<Record<string, string>>;

const alerts = (parse(readFileSync(alertsFile, 'utf8')) as AlertFile).groups.flatMap(
  ({ rules }) => rules,
);
const dashboard = JSON.parse(readFileSync(dashboardFile, 'utf8')) as {
  readonly panels: readonly Panel[];
};
const metrics = new Map(metricsOfProduct().map((metric) => [metric.name, metric]));

async function objectOf(kind: string, ...args: readonly string[]): Promise<ChartObject> {
  const found = (await rendered(...everything, ...args)).find((each) => each.kind === kind);
  assert.ok(found !== undefined, kind);
  return found;
}

test('promtool finds no fault in the alerts, and each fires when it should and on whom', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'tandem-alerts-'));
  after(() => rmSync(directory, { recursive: true }));
  cpSync(alertsFile, join(directory, 'alerts.yaml'));
  cpSync(testsFile, join(directory, 'test.yaml'));
  for (const args of [
    ['check', 'rules', '--lint=all', '--lint-fatal', 'alerts.yaml'],
    ['test', 'rules', 'test.yaml'],
  ]) {
    const { status, stdout, stderr } = await tryRun('promtool', args, { cwd: directory });
    assert.equal(status, 0, stdout + stderr);
  }
});

test('each alert has a test of when it fires', () => {
  const { tests } = parse(readFileSync(testsFile, 'utf8')) as {
    readonly tests: readonly {
      readonly alert_rule_test: readonly {
        readonly alertname: string;
        readonly exp_alerts: readonly unknown[];
      }[];
    }[];
  };
  const fired = tests
    .flatMap((each) => each.alert_rule_test)
    .filter(({ exp_alerts }) => exp_alerts.length > 0)
    .map(({ alertname }) => alertname);
  assert.deepEqual(
    alerts.map(({ alert }) => alert).filter((each) => !fired.includes(each)),
    [],
  );
});

test('each alert says what is wrong, and where the runbook is that has its fix', () => {
  const runbook = readFileSync(join(repository, 'docs/runbook.md'), 'utf8');
  const anchors = new Set(
    [...runbook.matchAll(/^## (.+)$/gm)].map(([, title = '']) =>
      title.toLowerCase().replaceAll(' ', '-'),
    ),
  );
  assert.ok(alerts.length > 10);
  for (const { alert, labels, annotations } of alerts) {
    assert.match(labels.severity, /^(critical|warning|info)$/, alert);
    assert.ok((annotations['summary'] ?? '').length > 20, alert);
    assert.ok((annotations['description'] ?? '').length > 40, alert);
    const [page, anchor = ''] = annotations['runbook_url']?.split('#') ?? [];
    assert.equal(page, 'docs/runbook.md', alert);
    assert.ok(anchors.has(anchor), `${alert}: docs/runbook.md has no section ${anchor}`);
  }
});

/** Selectors of an expression: the name of each metric with the labels that it is asked for. */
function selectorsOf(expression: string): readonly {
  readonly name: string;
  readonly labels: readonly string[];
  readonly before: string;
}[] {
  const pattern =
    /(\w+)?\(?\b((?:tandem|process|nodejs)_[a-z0-9_]+|up)\b(?:\{([^}]*)\})?(\[[^\]]+\])?/g;
  return [...expression.matchAll(pattern)].map(
    ([, before = '', name = '', matchers = '', range]) => ({
      name,
      labels: [...matchers.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label = '']) => label),
      before: range === undefined ? '' : before,
    }),
  );
}

function metricOf(name: string): ProductMetric | undefined {
  return (
    metrics.get(name) ??
    [/_bucket$/, /_sum$/, /_count$/]
      .map((suffix) => metrics.get(name.replace(suffix, '')))
      .find((each) => each?.type === 'histogram' && each.name !== name)
  );
}

/** By whose labels an expression groups. */
function groupedBy(expression: string): readonly string[] {
  return [...expression.matchAll(/\b(?:by|on|group_left|group_right)\s*\(([^)]*)\)/g)].flatMap(
    ([, names = '']) => names.split(',').flatMap((name) => name.trim() || []),
  );
}

const expressions = [
  ...alerts.map(({ alert, expr }) => ({ of: alert, expr })),
  ...dashboard.panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => ({ of: title, expr })),
  ),
];

test('each metric that an alert or the dashboard names is one of the product, of that type, with these labels', () => {
  let seen = 0;
  for (const { of, expr } of expressions) {
    const known = new Set([...targetLabels, 'le']);
    for (const { name, labels, before } of selectorsOf(expr)) {
      if (name === 'up') continue;
      seen += 1;
      const metric = metricOf(name);
      assert.ok(metric !== undefined, `${of}: there is no metric ${name}`);
      for (const label of metric.labels) known.add(label);
      for (const label of labels) {
        const has = targetLabels.includes(label) || metric.labels.includes(label);
        assert.ok(has, `${of}: ${name} has no label ${label}`);
      }
      if (['rate', 'increase', 'irate'].includes(before)) {
        assert.notEqual(metric.type, 'gauge', `${of}: ${before} of the gauge ${name}`);
      } else {
        assert.notEqual(metric.type, 'counter', `${of}: the counter ${name} without its rate`);
      }
    }
    for (const label of groupedBy(expr)) assert.ok(known.has(label), `${of}: no label ${label}`);
  }
  assert.ok(seen > 40, `${seen}`);
});

test('what both processes read from the kernel is never added up', () => {
  for (const { of, expr } of expressions) {
    for (const part of expr.matchAll(/sum by \(node[^)]*\) \((?:rate|increase)\((tandem_\w+)/g)) {
      const name = part[1] ?? '';
      assert.doesNotMatch(name, /^tandem_(datapath|learned|map|member)_/, of);
    }
  }
});

test('every expression of the dashboard is one that Prometheus reads', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'tandem-dashboard-'));
  after(() => rmSync(directory, { recursive: true }));
  const rules = dashboard.panels
    .flatMap(({ targets = [] }) => targets)
    .map(({ expr }, index) => ({
      record: `tandem:panel:${index}`,
      expr: expr.replaceAll('$__rate_interval', '5m').replaceAll('$node', '.*'),
    }));
  assert.ok(rules.length > 20);
  writeFileSync(
    join(directory, 'rules.yaml'),
    JSON.stringify({ groups: [{ name: 'dashboard', rules }] }),
  );
  const { status, stdout, stderr } = await tryRun('promtool', ['check', 'rules', 'rules.yaml'], {
    cwd: directory,
  });
  assert.equal(status, 0, stdout + stderr);
});

test('nothing of it is there unless it is asked for', async () => {
  const kinds = new Set((await rendered()).map(({ kind }) => kind));
  assert.ok(!kinds.has('PodMonitor') && !kinds.has('PrometheusRule'));
  const names = (await rendered()).map(({ metadata }) => metadata.name);
  assert.ok(!names.includes('tandem-dashboards'));
});

test('the rules have the address at which the repository is served', async () => {
  const url = 'https://git.example.com/tandem/blob/main/';
  const { spec } = (await objectOf(
    'PrometheusRule',
    ...['--set', `metrics.rules.runbookUrl=${url},metrics.rules.labels.release=mine`],
  )) as unknown as { readonly spec: AlertFile };
  const rules = spec.groups.flatMap((group) => group.rules);
  assert.equal(rules.length, alerts.length);
  for (const [index, { annotations, expr }] of rules.entries()) {
    assert.equal(annotations['runbook_url'], `${url}${alerts[index]?.annotations['runbook_url']}`);
    assert.equal(expr, alerts[index]?.expr);
  }
});

test('labels of the values find each object, and do not take away its own', async () => {
  for (const [kind, value] of [
    ['PrometheusRule', 'rules'],
    ['PodMonitor', 'podMonitor'],
    ['ConfigMap', 'dashboards'],
  ] as const) {
    const all = await rendered(...everything, '--set', `metrics.${value}.labels.release=mine`);
    const found = all.filter(
      (each) => each.kind === kind && each.metadata.labels?.['release'] === 'mine',
    );
    assert.equal(found.length, 1, kind);
    assert.equal(found[0]?.metadata.labels?.['app.kubernetes.io/part-of'], 'tandem');
  }
});

test("Prometheus finds both processes of each node at the node's address, by one label a node", async () => {
  const { spec } = (await objectOf('PodMonitor')) as unknown as {
    readonly spec: {
      readonly podMetricsEndpoints: readonly { readonly relabelings: readonly Relabeling[] }[];
    };
  };
  const endpoints = spec.podMetricsEndpoints.map(({ relabelings }) => relabelings);
  const targets = (container: string, address: string): Promise<readonly Labels[]> =>
    discovered(endpoints, {
      __meta_kubernetes_pod_container_name: container,
      __meta_kubernetes_pod_ip: address,
      __meta_kubernetes_pod_label_app_kubernetes_io_name: `tandem-${container}`,
      __meta_kubernetes_pod_node_name: 'n1',
      // as the operator sets them before
      ...{ namespace: 'kube-system', pod: `tandem-${container}-x7k2p`, container },
      ...{ endpoint: 'metrics', job: 'kube-system/tandem' },
    });
  const labels = (container: string, address: string): Labels => ({
    ...{ __address__: address, job: `tandem-${container}` },
    ...{ node: 'n1', instance: 'n1' },
  });
  assert.deepEqual(await targets('agent', '192.0.2.7'), [labels('agent', '192.0.2.7:9964')]);
  assert.deepEqual(await targets('agent', '2001:db8::7'), [labels('agent', '[2001:db8::7]:9964')]);
  assert.deepEqual(await targets('dns-proxy', '192.0.2.7'), [
    labels('dns-proxy', '192.0.2.7:9965'),
  ]);
  assert.deepEqual(await targets('other', '192.0.2.7'), []);
});

/** Labels that Prometheus gives to a discovered target by the relabelings of each endpoint, by promtool. */
async function discovered(
  endpoints: readonly (readonly Relabeling[])[],
  labels: Labels,
): Promise<readonly Labels[]> {
  const snake = (name: string): string =>
    name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const configurations = endpoints.map((relabelings, index) => ({
    job_name: `${index}`,
    static_configs: [{ targets: [labels['__meta_kubernetes_pod_ip']], labels }],
    relabel_configs: relabelings.map((each) =>
      Object.fromEntries(Object.entries(each).map(([name, value]) => [snake(name), value])),
    ),
  }));
  const directory = mkdtempSync(join(tmpdir(), 'tandem-discovery-'));
  try {
    const file = join(directory, 'prometheus.yaml');
    writeFileSync(file, JSON.stringify({ scrape_configs: configurations }));
    const found: Labels[] = [];
    for (const { job_name: job } of configurations) {
      const args = ['check', 'service-discovery', '--timeout=1s', file, job];
      const { status, stdout, stderr } = await tryRun('promtool', args);
      assert.equal(status, 0, stderr);
      for (const each of JSON.parse(stdout) as readonly { readonly labels: Labels | null }[]) {
        const kept = Object.entries(each.labels ?? {}).filter(
          ([name]) => name === '__address__' || !name.startsWith('__'),
        );
        if (kept.length > 0) found.push(Object.fromEntries(kept));
      }
    }
    return found;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test('each process has its metrics where the values say', async () => {
  for (const [args, expected] of [
    [[], ['127.0.0.1:9964', '127.0.0.1:9965']],
    [everything, ['[$(NODE_ADDRESS)]:9964', '[$(NODE_ADDRESS)]:9965']],
  ] as const) {
    const found = (await rendered(...args)).flatMap((each) => {
      if (each.kind !== 'DaemonSet') return [];
      const { spec } = each as unknown as {
        readonly spec: {
          readonly template: {
            readonly spec: {
              readonly containers: readonly [
                { readonly env: readonly { readonly name: string; readonly value?: string }[] },
              ];
            };
          };
        };
      };
      const { env } = spec.template.spec.containers[0];
      const names = env.map(({ name }) => name);
      // Kubernetes fills in what stands before it alone.
      if (args.length > 0) assert.ok(names.indexOf('NODE_ADDRESS') >= 0);
      assert.ok(names.indexOf('NODE_ADDRESS') < names.indexOf('TANDEM_METRICS_ADDRESS'));
      return [env.find(({ name }) => name === 'TANDEM_METRICS_ADDRESS')?.value];
    });
    assert.deepEqual(found.toSorted(), expected);
  }
});

for (const [what, values, message] of [
  ['a PodMonitor of loopback addresses', 'metrics.podMonitor.enabled=true', /address: node/],
  ['an address that there is not', 'metrics.address=0.0.0.0', /metrics/],
  ['a runbook without its slash', 'metrics.rules.runbookUrl=https://x.example/docs', /runbookUrl/],
  ['an interval that is none', 'metrics.podMonitor.interval=often', /interval/],
] as const) {
  test(`${what} is refused`, async () => {
    const { status, stderr } = await template('--set', values);
    assert.notEqual(status, 0);
    assert.match(stderr, message);
  });
}
