// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Work on Tandem while a pod of the demonstration asks and keeps connections open: nothing is lost, late or broken. */

import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { demoNamespace, demoObjects } from '../demo-objects.ts';
import { applyObjects, kubectl } from '../kubectl.ts';
import { rollout } from '../product.ts';
import { podProcess } from './pod-process.ts';
import { talkerPid } from './talkers.ts';
import { type ServerFaults, Traffic } from './traffic.ts';
import type { Trial } from './trial.ts';

/** With traffic, before the work and after it. */
const calmMs = 1000;

/** Gives the process of the pod that asks, as the machine numbers it. */
export async function startClient(trial: Trial): Promise<number> {
  await applyObjects(trial.layout, demoObjects);
  await rollout(trial.layout, demoNamespace, 'client');
  return talkerPid(trial.layout, await clientPod(trial));
}

/** Gives what was seen. @throws Error when something was lost, late or broken that the DNS server does not explain */
export async function underTraffic(
  trial: Trial,
  client: number,
  work: () => Promise<void>,
): Promise<string> {
  const before = await serverFaults(trial);
  await using traffic = await Traffic.start(client);
  await delay(calmMs);
  await work();
  await delay(calmMs);
  // Awaited here: else both programs are disposed of before they have told their results.
  return await traffic.end(async () => {
    const { slow, dropped } = await serverFaults(trial);
    // A CoreDNS that was replaced has begun anew.
    const grown = (now: number, then: number): number => Math.max(0, now - then);
    return { slow: grown(slow, before.slow), dropped: grown(dropped, before.dropped) };
  });
}

const dnsPods = ['-n', 'kube-system', 'get', 'pods', '-l', 'k8s-app=kube-dns', '-o'];

/** Name of the node that CoreDNS runs on. */
export function nodeOfDns({ layout }: Trial): Promise<string> {
  return kubectl(layout, [...dnsPods, 'jsonpath={.items[0].spec.nodeName}']);
}

/** Faults of CoreDNS since it started. */
async function serverFaults({ layout }: Trial): Promise<ServerFaults> {
  const name = await kubectl(layout, [...dnsPods, 'jsonpath={.items[-1:].metadata.name}']);
  const path = `/api/v1/namespaces/kube-system/pods/${name}:9153/proxy/metrics`;
  const text = await kubectl(layout, ['get', '--raw', path]);
  const sum = (bound: string): number =>
    [...text.matchAll(/^coredns_dns_request_duration_seconds_bucket\{(.*)\} (\S+)$/gm)]
      .filter(([, labels = '']) => labels.includes(`le="${bound}"`))
      .reduce((total, [, , value]) => total + Number(value), 0);
  return { slow: sum('+Inf') - sum('1.024'), dropped: rcvbufErrors(podProcess(layout, name)) };
}

/** Datagrams that UDP sockets in the network namespace of the process had no room for. */
function rcvbufErrors(pid: number | null): number {
  if (pid === null) return 0;
  const [names = [], values = []] = readFileSync(`/proc/${pid}/net/snmp`, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('Udp:'))
    .map((line) => line.split(' '));
  return Number(values[names.indexOf('RcvbufErrors')] ?? 0);
}

/** The client on the node of CoreDNS: no other node is needed for its answers. */
async function clientPod(trial: Trial): Promise<string> {
  const { layout } = trial;
  const on = `--field-selector=spec.nodeName=${await nodeOfDns(trial)}`;
  const command = ['-n', demoNamespace, 'get', 'pods', '-l', 'app=client', on];
  return kubectl(layout, [...command, '-o', 'jsonpath={.items[0].metadata.name}']);
}
