// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The controller on nodes that are new: taints go, kinds are there, policies have conditions, the leader's pod is deleted and its
 * process is killed.
 */

import { waitFor } from '@tandem/testing/wait';
import { applyObjects, kubectl, tryKubectl } from '../kubectl.ts';
import { installProduct, productNamespace, removeProduct } from '../product.ts';
import { podProcess } from './pod-process.ts';
import { type Trial, trialNamespace } from './trial.ts';

const taint = 'tandem.dev/agent-not-ready';
/** The chart's lease lasts 15 s, and is asked for every two to three. */
const takenOverMs = 20_000;
const podOf = (identity: string): string => identity.split('_')[0] ?? '';
const spec = { endpointSelector: { matchLabels: { app: 'nobody' } } };
const policy = (name: string, more: object): object => ({
  ...{ apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy' },
  ...{ metadata: { name, namespace: trialNamespace }, spec: { ...spec, ...more } },
});

export async function controller(trial: Trial): Promise<void> {
  const { layout, steps, nodeNames } = trial;
  const ask = (...args: readonly string[]): Promise<string> => kubectl(layout, args);
  /** The pod's name and what its process has drawn, `POD_UUID`. */
  const identity = (): Promise<string> => {
    const path = 'jsonpath={.spec.holderIdentity}';
    return ask('-n', productNamespace, 'get', 'lease', 'tandem-controller', '-o', path);
  };
  const holder = async (): Promise<string> => podOf(await identity());
  const addTaints = (): Promise<string> =>
    ask('taint', 'nodes', ...nodeNames, '--overwrite', `${taint}:NoSchedule`);
  const taintsGo = (): Promise<unknown> =>
    waitFor(async () => !(await ask('get', 'nodes', '-o', 'jsonpath={..taints}')).includes(taint), {
      what: 'the taints to go',
      timeoutMs: 60_000,
    });
  const message = (name: string): Promise<string> => {
    const path = "jsonpath={.status.conditions[?(@.type=='Valid')].message}";
    return ask('-n', trialNamespace, 'get', 'cnp', name, '-o', path);
  };
  const says = async (name: string, expected: RegExp): Promise<string> =>
    waitFor(
      async () => {
        const text = await message(name);
        return expected.test(text) ? text : null;
      },
      { what: `${name} says ${expected}`, timeoutMs: 30_000 },
    );

  steps.title('Tandem comes to nodes that have its taint');
  await steps.step('the taint is gone from each node when it is installed', async () => {
    await addTaints();
    await installProduct(layout);
    await taintsGo();
    return `${nodeNames.length} nodes`;
  });
  await steps.step('the kinds are defined, by a controller without privileges', async () => {
    const crds = await ask('get', 'crd', '-l', 'tandem.dev/definition-version', '-o', 'name');
    if (crds.trim().split('\n').length !== 3) throw new Error(crds);
    const script =
      "const s=require('fs').readFileSync('/proc/1/status','utf8');console.log(s.match(/^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp|VmRSS|VmHWM):.*$/gm).join(', ').replace(/\\s+/g,' '))";
    const status = await ask(
      ...['-n', productNamespace, 'exec', 'deployment/tandem-controller', '--'],
      ...['/bin/node', '-e', script],
    );
    for (const each of [
      /Uid: 65532/,
      /CapEff: 0{16}/,
      /CapBnd: 0{16}/,
      /NoNewPrivs: 1/,
      /Seccomp: 2/,
    ]) {
      if (!each.test(status)) throw new Error(status);
    }
    return status.trim();
  });

  steps.title('Policies');
  await steps.step('kubectl shows which is valid, and what is wrong with the other', async () => {
    await applyObjects(layout, [
      policy('good', { ingress: [{}] }),
      policy('bad', { egress: [{ toCIDR: ['192.0.2.0/240'] }] }),
    ]);
    await says('good', /succeeded$/);
    const text = await says('bad', /^spec\.egress/);
    const table = await ask('-n', trialNamespace, 'get', 'cnp', '--no-headers');
    if (!/bad .*False/.test(table) || !/good .*True/.test(table)) throw new Error(table);
    return text;
  });
  await steps.step('a trap is told when it is applied', async () => {
    const input = JSON.stringify(policy('trap', { ingress: [] }));
    const { status, stderr } = await tryKubectl(layout, ['apply', '-f', '-'], { input });
    if (status !== 0 || !stderr.includes('an empty list is none')) throw new Error(stderr);
    return stderr.trim().slice(0, 160);
  });
  await steps.step('a NetworkPolicy that is partly without effect has an event', async () => {
    await applyObjects(layout, [
      {
        ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
        metadata: { name: 'half', namespace: trialNamespace },
        spec: {
          podSelector: { matchLabels: { app: 'nobody' } },
          ...{ policyTypes: ['Ingress'], egress: [{}] },
        },
      },
    ]);
    return waitFor(
      async () => {
        const text = await ask('-n', trialNamespace, 'events', '--for', 'networkpolicy/half');
        return /PolicyWarning/.test(text) ? (text.trim().split('\n').at(-1) ?? '') : null;
      },
      { what: 'the event', timeoutMs: 30_000 },
    );
  });

  steps.title('The leader goes');
  for (const [how, args] of [
    ['gently', []],
    ['forced', ['--grace-period=0', '--force']],
  ] as const) {
    await steps.step(`its pod is deleted (${how}): another one leads, and goes on`, async () => {
      const former = await holder();
      const begunMs = performance.now();
      await ask('-n', productNamespace, 'delete', 'pod', former, '--wait=false', ...args);
      await waitFor(async () => ![former, ''].includes(await holder()), {
        what: 'another leader',
        timeoutMs: takenOverMs + 10_000,
      });
      const tookMs = performance.now() - begunMs;
      if (tookMs > takenOverMs) throw new Error(`after ${tookMs.toFixed(0)} ms`);
      await applyObjects(layout, [policy(how, { ingress: [{}] })]);
      await says(how, /succeeded$/);
      return `after ${(tookMs / 1000).toFixed(1)} s`;
    });
  }
  await steps.step('its process gets SIGKILL: another one leads, and removes taints', async () => {
    const former = await identity();
    const pid = podProcess(layout, podOf(former));
    if (pid === null) throw new Error(`${former} has no process`);
    process.kill(pid, 'SIGKILL');
    const begunMs = performance.now();
    await addTaints();
    const next = await waitFor(
      async () => {
        const now = await identity();
        return ['', former].includes(now) ? null : now;
      },
      { what: 'another leader', timeoutMs: takenOverMs + 10_000 },
    );
    const tookMs = performance.now() - begunMs;
    if (tookMs > takenOverMs) throw new Error(`after ${tookMs.toFixed(0)} ms`);
    await taintsGo();
    await applyObjects(layout, [policy('killed', { ingress: [{}] })]);
    await says('killed', /succeeded$/);
    const who = podOf(next) === podOf(former) ? 'of the same pod' : 'of the other pod';
    return `one ${who} after ${(tookMs / 1000).toFixed(1)} s`;
  });
  await steps.step('it goes with Tandem, and the kinds stay', async () => {
    await removeProduct(layout);
    const crds = await ask('get', 'crd', '-o', 'name');
    if (!crds.includes('ciliumnetworkpolicies')) throw new Error(crds);
    return '';
  });
}
