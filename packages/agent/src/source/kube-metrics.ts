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
  /** That are known. */
  readonly objectsOf: (list: ListName) => number;
}

const listCounters = {
  lists: 'lists that were begun, watches that begin with all objects included',
  watches: 'watches that were begun where the one before ended',
  events: 'objects that came, by list or by watch',
  relists: 'lists after the first: the API server no longer knew where the agent was',
  unknown: 'lines of a watch that are no event of a known type',
  failures: 'lists and watches that failed; each is tried again',
} as const;

export function addKubeMetrics(metrics: Metrics, { session, lists, objectsOf }: KubeFacts): void {
  addFields(
    metrics,
    'tandem_kube',
    {
      connections: 'connections to the API server',
      lost: 'connections to the API server that ended without its notice or gave no answer',
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
  metrics.gauges({ name: 'tandem_kube_objects', help: 'objects that are known' }, ['list'], () =>
    perList(({ list }) => objectsOf(list)),
  );
  metrics.gauges(
    {
      name: 'tandem_kube_stale_seconds',
      help: 'how long changes of a list have not been followed; -1: it was never read',
    },
    ['list'],
    () => perList(({ feed }) => staleSeconds(feed)),
  );
}

function staleSeconds({ state }: Pick<ObjectFeed, 'state'>): number {
  if (state.kind === 'waiting') return -1;
  return state.kind === 'stale' ? (performance.now() - state.sinceMs) / 1000 : 0;
}
