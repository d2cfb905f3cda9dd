// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Prometheus metrics that cost nothing until they are scraped: the hot paths count in typed arrays (shared
// with the DNS worker, or read from per-CPU maps), and a metric reads them when asked. Even the library is
// loaded with the first scrape. Names start with "tandem_"; the reference page is generated from what is
// registered.

import { createRequire } from 'node:module';
import type * as prom from 'prom-client';
import { escapeUnsafe } from './log-escape.ts';

export type MetricLabels = Readonly<Record<string, string>>;

/** Time series of one metric that a gauge or counter may report at most: labels are bounded. */
export const metricSeriesMax = 10_000;

/** How often the delay of the event loop is sampled: each sample wakes an idle process. */
const eventLoopSampleMs = 100;

export interface MetricSpec {
  /** "tandem_dns_queries_total": unit last, counters end in _total. */
  readonly name: string;
  readonly help: string;
}

/** One time series with its current value. */
export interface MetricSample {
  readonly labels?: MetricLabels;
  readonly value: number;
}

/** An array of numbers in which other code counts. */
export type CountArray =
  | Float64Array
  | Uint32Array
  | Int32Array
  | BigUint64Array
  | readonly number[];

/** A time series that is one element of an array. */
export interface CountSeries {
  readonly labels?: MetricLabels;
  readonly index: number;
}

export interface HistogramSpec extends MetricSpec {
  /** Upper bounds of the buckets, ascending, in the unit of the name (seconds); +Inf is added. */
  readonly bounds: readonly number[];
  /** Observations of each bucket alone (not cumulative), one more element than bounds for +Inf. */
  readonly counts: CountArray;
  /** First bucket in `counts`. Default 0. */
  readonly offset?: number;
  /** Sum of the observed values in the unit of the name. */
  readonly sum: () => number;
  readonly labels?: MetricLabels;
}

interface HistogramValue {
  readonly metricName: string;
  readonly labels: Record<string, string | number>;
  readonly value: number;
}

/** A row of the reference page. */
export interface MetricDescription {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly labels: readonly string[];
}

function countAt(counts: CountArray, index: number): number {
  return Number(counts[index] ?? 0);
}

/** People read label values: no control characters. */
function safeLabels(labels: MetricLabels): Record<string, string> {
  const safe: Record<string, string> = {};
  for (const [name, value] of Object.entries(labels)) safe[name] = escapeUnsafe(value);
  return safe;
}

function labelNames(samples: readonly { readonly labels?: MetricLabels }[]): string[] {
  return Object.keys(samples[0]?.labels ?? {});
}

/** A histogram whose buckets are counted elsewhere. */
class ArrayHistogram {
  readonly name: string;
  readonly help: string;
  readonly type = 'histogram';
  readonly aggregator = 'sum';
  readonly labelNames: string[];
  readonly #parts: HistogramSpec[] = [];

  constructor(spec: HistogramSpec) {
    this.name = spec.name;
    this.help = spec.help;
    this.labelNames = labelNames([spec]);
  }

  add(spec: HistogramSpec): void {
    this.#parts.push(spec);
  }

  /** For the registry: buckets as Prometheus wants them, each counting all below its bound. */
  async get(): Promise<object> {
    const values = this.#parts.flatMap((part) => this.#values(part));
    const { name, help, type, aggregator } = this;
    return { name, help, type, aggregator, values };
  }

  /** Counts are elsewhere: nothing of ours to reset. */
  reset(): void {}

  #values(part: HistogramSpec): HistogramValue[] {
    const labels = safeLabels(part.labels ?? {});
    const offset = part.offset ?? 0;
    const values: HistogramValue[] = [];
    let count = 0;
    for (let bucket = 0; bucket <= part.bounds.length; bucket++) {
      count += countAt(part.counts, offset + bucket);
      const le = part.bounds[bucket] ?? '+Inf';
      values.push({ metricName: `${this.name}_bucket`, labels: { ...labels, le }, value: count });
    }
    values.push({ metricName: `${this.name}_sum`, labels, value: part.sum() });
    values.push({ metricName: `${this.name}_count`, labels, value: count });
    return values;
  }
}

type Registration = (library: typeof prom, registry: prom.Registry) => void;

export class Metrics {
  /** Registrations that wait, in order; null once the registry exists. */
  #waiting: Registration[] | null = [];
  #library: typeof prom | null = null;
  #registry: prom.Registry | null = null;
  readonly #histograms = new Map<string, ArrayHistogram>();
  #seriesRefused = 0;

  constructor() {
    this.counters(
      {
        name: 'tandem_metrics_series_refused_total',
        help: 'time series left out of a scrape because a metric had too many',
      },
      [],
      () => [{ value: this.#seriesRefused }],
    );
  }

  get contentType(): string {
    return this.#made().contentType;
  }

  /** Metrics of the process and of Node: CPU, memory, event loop, garbage collection. Main thread only. */
  addProcessMetrics(): void {
    this.#register((library, register) => {
      library.collectDefaultMetrics({ register, eventLoopMonitoringPrecision: eventLoopSampleMs });
    });
  }

  /** A counter with the series that `read` returns at each scrape; all have the labels `names`. */
  counters(spec: MetricSpec, names: readonly string[], read: () => readonly MetricSample[]): void {
    const refuse = this.#bounded.bind(this);
    this.#register((library, registry) => {
      const counter = new library.Counter({
        ...spec,
        labelNames: [...names],
        registers: [registry],
        collect: () => {
          counter.reset();
          for (const { labels, value } of refuse(read()))
            counter.inc(safeLabels(labels ?? {}), value);
        },
      });
    });
  }

  /** A counter whose series are elements of `counts`. */
  arrayCounter(spec: MetricSpec, counts: CountArray, series: readonly CountSeries[]): void {
    this.counters(spec, labelNames(series), () =>
      series.map(({ labels, index }) => ({
        ...(labels === undefined ? {} : { labels }),
        value: countAt(counts, index),
      })),
    );
  }

  /** A gauge with the series that `read` returns at each scrape; all have the labels `names`. */
  gauges(spec: MetricSpec, names: readonly string[], read: () => readonly MetricSample[]): void {
    const refuse = this.#bounded.bind(this);
    this.#register((library, registry) => {
      const gauge = new library.Gauge({
        ...spec,
        labelNames: [...names],
        registers: [registry],
        collect: () => {
          gauge.reset();
          for (const { labels, value } of refuse(read()))
            gauge.set(safeLabels(labels ?? {}), value);
        },
      });
    });
  }

  /** A gauge of one value. */
  gauge(spec: MetricSpec, read: () => number): void {
    this.gauges(spec, [], () => [{ value: read() }]);
  }

  /** A histogram, or one more labelled part of a histogram registered before. */
  arrayHistogram(spec: HistogramSpec): void {
    const known = this.#histograms.get(spec.name);
    const histogram = known ?? new ArrayHistogram(spec);
    if (known === undefined) {
      this.#histograms.set(spec.name, histogram);
      this.#register((_, registry) => {
        // The registry asks no more of a metric than `get`; its type has fields of its own histograms.
        registry.registerMetric(histogram as unknown as prom.Metric);
      });
    }
    histogram.add(spec);
  }

  /** All metrics in the Prometheus text format. */
  text(): Promise<string> {
    return this.#made().metrics();
  }

  /** Descriptions of all metrics, by name: for the reference page. */
  describe(): MetricDescription[] {
    const rows = this.#made().getMetricsAsArray() as unknown as {
      name: string;
      help: string;
      type?: string;
      labelNames?: string[];
    }[];
    return rows
      .map((row) => ({
        name: row.name,
        type: row.type ?? (row.name.endsWith('_total') ? 'counter' : 'gauge'),
        help: row.help,
        labels: [...(row.labelNames ?? [])],
      }))
      .toSorted((left, right) => (left.name < right.name ? -1 : 1));
  }

  #register(add: Registration): void {
    if (this.#library === null || this.#registry === null) this.#waiting?.push(add);
    else add(this.#library, this.#registry);
  }

  #made(): prom.Registry {
    if (this.#registry !== null) return this.#registry;
    this.#library = createRequire(import.meta.url)('prom-client') as typeof prom;
    this.#registry = new this.#library.Registry();
    for (const add of this.#waiting ?? []) add(this.#library, this.#registry);
    this.#waiting = null;
    return this.#registry;
  }

  #bounded(samples: readonly MetricSample[]): readonly MetricSample[] {
    if (samples.length <= metricSeriesMax) return samples;
    this.#seriesRefused += samples.length - metricSeriesMax;
    return samples.slice(0, metricSeriesMax);
  }
}

/** The reference page's table. */
export function metricsMarkdown(metrics: Metrics): string {
  let text = '| metric | type | labels | meaning |\n|---|---|---|---|\n';
  for (const { name, type, labels, help } of metrics.describe()) {
    const meaning = help.replaceAll('|', '\\|');
    text += `| \`${name}\` | ${type} | ${labels.join(', ')} | ${meaning} |\n`;
  }
  return text;
}
