// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import type { KubeRequest, KubeResponse, KubeSession } from '@tandem/kube/session';
import { createLogger } from '@tandem/runtime/log';
import { systemClock } from '@tandem/runtime/system-clock';
import { waitFor } from '@tandem/testing/wait';
import { Lease, type LeaseOptions } from './lease.ts';

type Answer = Pick<KubeResponse, 'status'> & { readonly object: object };

/** A session whose server answers so; an error is a connection that ended. */
function sessionOf(answer: (request: KubeRequest) => Answer | Error): KubeSession {
  const request = async (each: KubeRequest): Promise<object> => {
    const given = answer(each);
    if (given instanceof Error) throw given;
    const body = Readable.from([Buffer.from(JSON.stringify(given.object))]);
    return { status: given.status, retryAfterMs: 0, contentType: 'application/json', body };
  };
  return { request } as unknown as KubeSession;
}

function leaseOf(options: Pick<LeaseOptions, 'session' | 'clock' | 'onLead'>): Lease {
  const log = createLogger({ program: 'test', level: 'error' });
  return new Lease({
    log,
    namespace: 't',
    name: 'l',
    identity: 'one',
    durationMs: 600,
    ...options,
  });
}

test('a term whose lease is not renewed ends, though the timer of its end is early', async () => {
  let isServed = true;
  const terms: AbortSignal[] = [];
  const lease = leaseOf({
    session: sessionOf(({ method }) => {
      if (!isServed) return new Error('the API server is away');
      if (method === 'GET') return { status: 404, object: {} };
      isServed = false;
      return { status: 201, object: { metadata: { resourceVersion: '1' } } };
    }),
    // Of 400 ms this clock counts 360.
    clock: { ...systemClock, boottimeSeconds: () => systemClock.boottimeSeconds() * 0.9 },
    onLead: (signal) => terms.push(signal),
  });
  lease.start();
  await waitFor(() => terms.length === 1, { what: 'the term' });
  await waitFor(() => terms[0]?.aborted === true, { what: 'its end', timeoutMs: 3000 });
  assert.deepEqual([lease.isLeader, lease.counters.taken, lease.counters.lost], [false, 1, 1]);
  await lease.stop();
});
