// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Waits until the pod that takes Tandem from a node is ready on each node, and deletes their DaemonSet then. Run by the Job of the
// chart's uninstall hook.

import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

const pollMs = 2000;
const requestMs = 10_000;
const { NAMESPACE: namespace, DAEMONSET: name, RELEASE: release } = process.env;
const account = '/var/run/secrets/kubernetes.io/serviceaccount';
const host = process.env.KUBERNETES_SERVICE_HOST;
const server = `https://${host.includes(':') ? `[${host}]` : host}:${process.env.KUBERNETES_SERVICE_PORT}`;
const endsMs = performance.now() + Number(process.env.TIMEOUT_SECONDS) * 1000;

async function call(method, path) {
  // The token is renewed while this waits.
  const authorization = `Bearer ${readFileSync(`${account}/token`, 'utf8').trim()}`;
  const options = { method, headers: { authorization }, signal: AbortSignal.timeout(requestMs) };
  const answer = await fetch(`${server}${path}`, options);
  if (!answer.ok) throw new Error(`${method} ${path}: HTTP status ${answer.status}`);
  return answer.json();
}

const daemonSet = `/apis/apps/v1/namespaces/${namespace}/daemonsets/${name}`;

async function progress() {
  const { metadata, status } = await call('GET', daemonSet);
  if ((status.observedGeneration ?? 0) < metadata.generation) return null;
  return { ready: status.numberReady ?? 0, wanted: status.desiredNumberScheduled };
}

/** Of each node that is not clean, why, as far as its pod says. */
async function unclean() {
  const labels = `app.kubernetes.io/name=tandem-uninstall,app.kubernetes.io/instance=${release}`;
  const query = `labelSelector=${encodeURIComponent(labels)}`;
  const { items } = await call('GET', `/api/v1/namespaces/${namespace}/pods?${query}`);
  return items
    .filter(
      ({ status }) =>
        !status.conditions?.some((each) => each.type === 'Ready' && each.status === 'True'),
    )
    .map(({ metadata, spec, status }) => {
      const [state = {}] = (status.initContainerStatuses ?? []).map((each) => ({
        ...each.lastState,
        ...each.state,
      }));
      const { reason = status.phase } = state.waiting ?? state.terminated ?? {};
      return `${spec.nodeName ?? 'no node'}: ${reason} (kubectl -n ${namespace} logs ${metadata.name} -c remove)`;
    });
}

let said = '';
let failure = 'no answer of the API server';
for (;;) {
  try {
    const now = await progress();
    failure = '';
    if (now !== null) {
      const text = `${now.ready} of ${now.wanted} nodes are clean`;
      if (text !== said) console.log(text);
      said = text;
      if (now.ready === now.wanted) {
        await call('DELETE', daemonSet);
        process.exit(0);
      }
    }
  } catch (error) {
    failure = error.cause?.message ?? error.message;
  }
  if (performance.now() > endsMs) break;
  await delay(pollMs);
}
console.error(`not all nodes are clean: ${failure || said}`);
for (const line of await unclean().catch(() => [])) console.error(line);
console.error(
  `The DaemonSet ${name} stays, and cleans nodes that come back; delete it when no more will.`,
);
process.exit(1);
