// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Metrics of the conversation with the Kubernetes API. */

import { addFields } from '@tandem/dns-proxy/metrics/node-metrics';
import type { KubeSession } from '@tandem/kube/session';
import type { MetricSample, Metrics } from '@tandem/runtime/metrics';
import type { ListName } from './kube-resources.ts';
import type { ObjectFeed } from './pod-directory.ts';

export interface KubeFacts {
  readonly session: KubeSession['counters'];
  readonly lists: readonly {
    readonly list: ListName;
    readonly feed: Pick<ObjectFeed, 'state' | 'counters'>;
  }[];
  /** Number of known objects. */
  readonly objectsOf: (list: ListName) => number;
}

const listCounters = {
  lists: 'lists begun, watches with an initial list included',
  watches: 'watches resumed where the former one ended',
  events: 'objects received by list or watch',
  relists: 'lists after the first, because the resource version of the watch had expired',
  unknown: 'lines of a watch that are no event of a supported type',
  failures: 'lists and watches that failed and are tried again',
} as const;

export function addKubeMetrics(metrics: Metrics, { session, lists, objectsOf }: KubeFacts): void {
  addFields(
    metrics,
    'tandem_kube',
    {
      connections: 'connections to the API server',
      lost: 'connections to the API server that broke or did not answer',
      refused: 'attempts to connect to the API server that failed',
      requests: 'requests to the API server',
    },
    () => session,
  );
  const perList = (value: (each: KubeFacts['lists'][number]) => number): readonly MetricSample[] =>
    lists.map((each) => ({ labels: { list: each.list }, value: value(each) }));
  for (const [field, help] of Object.entries(listCounters)) {
    metrics.counters({ name: `tandem_kube_${field}_total`, help }, ['list'], () =>
      perList(({ feed }) => feed.counters[field as keyof typeof listCounters]),
    );
  }
  metrics.gauges(
    { name: 'tandem_kube_objects', help: 'objects in the cache of the agent' },
    ['list'],
    () => perList(({ list }) => objectsOf(list)),
  );
  metrics.gauges(
    {
      name: 'tandem_kube_stale_seconds',
      help: 'time since changes of the list were last followed; -1: it was never read',
    },
    ['list'],
    () => perList(({ feed }) => staleSeconds(feed)),
  );
}

function staleSeconds({ state }: Pick<ObjectFeed, 'state'>): number {
  if (state.kind === 'waiting') return -1;
  return state.kind === 'stale' ? (performance.now() - state.sinceMs) / 1000 : 0;
}
