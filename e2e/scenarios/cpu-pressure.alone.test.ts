// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A node whose CPUs other programs want. Both members wait for a CPU again and again, each longer than the beat of the
 * other may be old. Answers come late, as everything there does, but none is lost, and none is a SERVFAIL.
 */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { startCpuPressure } from '../kit/cpu-pressure.ts';
import { type LoadResult, startLoad } from '../kit/load.ts';
import { withMemberReport } from '../kit/member-report.ts';
import { clusterDns4, startStandardNode } from '../kit/standard-node.ts';

/** Threads that compute on each CPU: a member waits for some 30 ms whenever it wants to run, often for far longer. */
const burnersPerCpu = 10;

const standard = await startStandardNode({ pods: [{ name: 'free' }] });
after(() => standard[Symbol.asyncDispose]());
const { node, tandem } = standard;

/** As long as a member waits for a server, and then some. */
const timeoutMs = 12_000;
const names = { server: clusterDns4, nameFormat: 'n-%u.allowed.test', nameCount: 500 };
const shown = ({ p50Us, p99Us, maxUs }: LoadResult): string =>
  [p50Us, p99Us, maxUs].map((us) => `${Math.round(us / 1000)}`).join('/');

test('queries are answered while both members wait for a CPU', () =>
  withMemberReport(tandem, async () => {
    await using _pressure = await startCpuPressure(burnersPerCpu);
    const asked = { ...names, timeoutMs, seconds: 5 };
    await using load = startLoad(node.pod('client').namespace, { ...asked, rate: 500 });
    // Of a pod without policy: what the server and the kernel take of the time.
    await using direct = startLoad(node.pod('free').namespace, { ...asked, rate: 50 });
    const [result, beside] = await Promise.all([load.result, direct.result]);
    console.log(`${shown(result)} ms, direct ${shown(beside)} ms (median/p99/most)`);
    assert.deepEqual([result.lost, result.rcodes], [0, { '0': result.sent }]);
  }));
