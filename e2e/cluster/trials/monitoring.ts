// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A Prometheus of the cluster's network finds and scrapes every node with the configuration of docs/monitoring.md: it has every metric
 * of the reference, the dashboard's expressions have answers, alerts are quiet while all is well and name a node whose process is gone,
 * and an upgrade continues the series.
 */

import { cpSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type RunningProcess, run, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { parse, stringify } from 'yaml';
import { metricsOfProduct } from '../../kit/product-metrics.ts';
import { inControlPlane } from '../control-plane.ts';
import { kubectl } from '../kubectl.ts';
import { nodeName } from '../layout.ts';
import { installProduct, productTag, upgradeProduct } from '../product.ts';
import { agentsAreBack, agentsCannotStart } from './agents.ts';
import { startGuarded } from './guarded.ts';
import type { Trial } from './trial.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const files = join(root, 'charts/tandem/files/monitoring');
const values = ['metrics.address=node'];
const port = 9090;
const scrapeSeconds = 2;
const upTimeoutMs = 60_000;
const alertTimeoutMs = 60_000;
/** Alerts wait for minutes: here each is as if it had waited. */
const impatient = { for: '5s' };

interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

export async function monitoring(trial: Trial): Promise<void> {
  const { steps, layout, nodeNames } = trial;
  await installProduct(layout, values);
  await startGuarded(trial, 2);
  await using prometheus = await Prometheus.start(trial);
  const jobs = ['tandem-agent', 'tandem-dns-proxy'];
  const expected = nodeNames.flatMap((node) => jobs.map((job) => `${node} ${job}`)).toSorted();
  steps.title('A Prometheus in the cluster, configured as docs/monitoring.md says');
  await steps.step('it scrapes both processes of each node, by node and job', async () => {
    let up: readonly string[] = [];
    const ends = prometheus.ended.then((why): never => {
      throw new Error(why);
    });
    const areUp = waitFor(
      async () => {
        up = targets(await prometheus.query('up == 1'));
        return up.join() === expected.join();
      },
      { what: 'all targets to be up', timeoutMs: upTimeoutMs },
    );
    await Promise.race([areUp, ends]);
    return up.join(', ');
  });
  await steps.step('it has every metric of the reference', async () => {
    const names = new Set(
      (await prometheus.query('group by (__name__) ({job=~"tandem-.*"})')).map(
        ({ metric }) => metric['__name__'] ?? '',
      ),
    );
    const metrics = metricsOfProduct();
    const missing = metrics.filter(
      ({ name, type }) => !names.has(type === 'histogram' ? `${name}_count` : name),
    );
    // these have a series for what there is, and there is nothing of it
    const absent = missing
      .map(({ name }) => name)
      .filter((name) => !/^(tandem_(degraded|learned_\w+)|nodejs_(active_\w+|gc_\w+))$/.test(name));
    if (absent.length > 0) throw new Error(absent.join(', '));
    return `${metrics.length - missing.length} of ${metrics.length}`;
  });
  await steps.step('expressions of the dashboard have answers', async () => {
    const { panels } = JSON.parse(readFileSync(join(files, 'dashboard.json'), 'utf8')) as {
      readonly panels: readonly {
        readonly title: string;
        readonly targets?: readonly { readonly expr: string }[];
      }[];
    };
    const expressions = panels.flatMap(({ title, targets: of = [] }) =>
      of.map(({ expr }) => ({
        title,
        expr: expr.replaceAll('$__rate_interval', '30s').replaceAll('$node', '.*'),
      })),
    );
    const silent: string[] = [];
    for (const { title, expr } of expressions) {
      if ((await prometheus.query(expr)).length === 0) silent.push(title);
    }
    // nothing is over a limit, stale, refused or degraded on a cluster that is well, and no pod asks for a name here
    const quiet = [
      ...['What is degraded', 'Over a limit', 'API not followed for'],
      ...['Pod starts in the CNI gate', 'Learned addresses by namespace'],
      'Queries by what became of them',
    ];
    const wrong = silent.filter((each) => !quiet.includes(each));
    if (wrong.length > 0) throw new Error(`no answer: ${wrong.join(', ')}`);
    return `${expressions.length - silent.length} of ${expressions.length}; nothing to show: ${silent.join(', ')}`;
  });
  await steps.step('no alert fires on a cluster that is well', async () => {
    const alerts = await prometheus.alerts();
    if (alerts.length > 0) throw new Error(alerts.join(', '));
    return '';
  });
  await steps.step('an upgrade continues the series of each node', async () => {
    await upgradeProduct(layout, productTag, {
      values: [...values, 'agent.options.logLevel=debug'],
    });
    await waitFor(
      async () => targets(await prometheus.query('up == 1')).join() === expected.join(),
      { what: 'all targets to be up', timeoutMs: upTimeoutMs },
    );
    const series = await prometheus.query(
      'count by (job, node) (count_over_time(up{job=~"tandem-.*"}[10m]))',
    );
    const twice = series.filter(({ value }) => value[1] !== '1');
    if (series.length !== expected.length || twice.length > 0)
      throw new Error(JSON.stringify(series));
    return '';
  });
  steps.title('No agent runs');
  await steps.step('alerts name the process of each node, and no node as down', async () => {
    await agentsCannotStart(trial);
    const wanted = nodeNames.map((node) => `TandemProcessDown ${node} tandem-agent`);
    let seen: readonly string[] = [];
    await waitFor(
      async () => {
        seen = await prometheus.alerts();
        return wanted.every((each) => seen.includes(each));
      },
      { what: `alerts of ${nodeName(1)}`, timeoutMs: alertTimeoutMs },
    );
    const wrong = seen.filter((each) => /NodeDown|DnsDown|NotEnforcing/.test(each));
    if (wrong.length > 0) throw new Error(wrong.join(', '));
    return seen.join(', ');
  });
  await steps.step('they end when the agents are back', async () => {
    await agentsAreBack(trial);
    await waitFor(async () => (await prometheus.alerts()).length === 0, {
      what: 'the alerts to end',
      timeoutMs: alertTimeoutMs * 2,
    });
    return '';
  });
}

const targets = (series: readonly Series[]): readonly string[] =>
  series.map(({ metric }) => `${metric['node']} ${metric['job']}`).toSorted();

interface DiscoveredPod {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly spec: {
    readonly nodeName?: string;
    readonly containers: readonly { readonly name: string }[];
  };
  readonly status: { readonly podIP?: string };
}

class Prometheus implements AsyncDisposable {
  readonly #trial: Trial;
  readonly #directory: string;
  readonly #process: RunningProcess;

  private constructor(trial: Trial, directory: string, process: RunningProcess) {
    this.#trial = trial;
    this.#directory = directory;
    this.#process = process;
  }

  static async start(trial: Trial): Promise<Prometheus> {
    const directory = mkdtempSync(join(tmpdir(), 'tandem-prometheus-'));
    const page = readFileSync(join(root, 'docs/monitoring.md'), 'utf8');
    const block = /```yaml\n(scrape_configs:[\s\S]*?)```/.exec(page)?.[1] ?? '';
    const documented = parse(block) as {
      readonly scrape_configs: readonly {
        readonly kubernetes_sd_configs: readonly object[];
      }[];
    };
    const configuration = {
      global: {
        scrape_interval: `${scrapeSeconds}s`,
        scrape_timeout: '1s',
        evaluation_interval: '2s',
      },
      rule_files: ['alerts.yaml'],
      scrape_configs: documented.scrape_configs.map((each) => ({
        ...Object.fromEntries(
          Object.entries(each).filter(([name]) => name !== 'kubernetes_sd_configs'),
        ),
        file_sd_configs: [{ files: ['pods.json'], refresh_interval: '2s' }],
      })),
    };
    writeFileSync(join(directory, 'prometheus.yaml'), stringify(configuration));
    cpSync(join(files, 'alerts.yaml'), join(directory, 'alerts.yaml'));
    const rules = parse(readFileSync(join(directory, 'alerts.yaml'), 'utf8')) as {
      readonly groups: readonly { readonly name: string; readonly rules: readonly object[] }[];
    };
    const groups = rules.groups.map((group) => ({
      ...group,
      rules: group.rules.map((rule) => ({ ...rule, ...impatient })),
    }));
    writeFileSync(join(directory, 'alerts.yaml'), stringify({ groups }));
    const started = startProcess(
      ...inControlPlane(trial.layout, 'prometheus', [
        `--config.file=${join(directory, 'prometheus.yaml')}`,
        `--storage.tsdb.path=${join(directory, 'data')}`,
        `--web.listen-address=127.0.0.1:${port}`,
      ]),
    );
    const prometheus = new Prometheus(trial, directory, started);
    await prometheus.discover();
    return prometheus;
  }

  /** Finds targets as the discovery of Prometheus does for pods without ports, which Debian's build cannot. */
  async discover(): Promise<void> {
    const { items } = JSON.parse(
      await kubectl(this.#trial.layout, ['get', 'pods', '-A', '-o', 'json']),
    ) as { readonly items: readonly DiscoveredPod[] };
    const groups = items.flatMap(({ metadata, spec, status }) =>
      spec.containers.map(({ name }) => ({
        targets: status.podIP === undefined ? [] : [status.podIP],
        labels: {
          __meta_kubernetes_namespace: metadata.namespace,
          __meta_kubernetes_pod_name: metadata.name,
          __meta_kubernetes_pod_container_name: name,
          __meta_kubernetes_pod_ip: status.podIP ?? '',
          __meta_kubernetes_pod_node_name: spec.nodeName ?? '',
          ...Object.fromEntries(
            Object.entries(metadata.labels ?? {}).map(([label, value]) => [
              `__meta_kubernetes_pod_label_${label.replaceAll(/[^A-Za-z0-9_]/g, '_')}`,
              value,
            ]),
          ),
        },
      })),
    );
    const draft = join(this.#directory, 'pods.new');
    writeFileSync(draft, JSON.stringify(groups));
    renameSync(draft, join(this.#directory, 'pods.json'));
  }

  /** Resolves when it has ended, which it should not. */
  get ended(): Promise<string> {
    return this.#process.exited.then(
      () => `Prometheus ended: ${this.#process.stderr().slice(-500)}`,
    );
  }

  async query(expression: string): Promise<readonly Series[]> {
    await this.discover();
    const { data } = await this.#get(`query?query=${encodeURIComponent(expression)}`);
    return (data as { readonly result: readonly Series[] }).result;
  }

  /** Alerts that fire: name, node and job. */
  async alerts(): Promise<readonly string[]> {
    await this.discover();
    const { data } = await this.#get('alerts');
    const { alerts } = data as {
      readonly alerts: readonly {
        readonly state: string;
        readonly labels: Readonly<Record<string, string>>;
      }[];
    };
    return alerts
      .filter(({ state }) => state === 'firing')
      .map(({ labels: { alertname, node, job, code } }) =>
        [alertname, node, job, code].filter((each) => each !== undefined).join(' '),
      )
      .toSorted();
  }

  async #get(path: string): Promise<{ readonly data: unknown }> {
    const address = `http://127.0.0.1:${port}/api/v1/${path}`;
    const command = inControlPlane(this.#trial.layout, 'busybox', ['wget', '-qO-', address]);
    const { stdout } = await run(...command);
    return JSON.parse(stdout) as { readonly data: unknown };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
