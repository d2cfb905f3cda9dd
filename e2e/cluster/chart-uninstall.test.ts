// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The hooks by which `helm uninstall` takes Tandem from each node. The trial `uninstall` runs them. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChartObject, type ChartPod, podOf, rendered } from './helm-chart.ts';

const enabled = ['--set', 'cleanup.onUninstall=true'];

const hooksOf = (objects: readonly ChartObject[]): readonly ChartObject[] =>
  objects.filter((each) => each.metadata.annotations?.['helm.sh/hook'] === 'post-delete');

async function podOfHook(kind: string, ...args: readonly string[]): Promise<ChartPod> {
  const found = hooksOf(await rendered(...enabled, ...args)).find((each) => each.kind === kind);
  assert.ok(found !== undefined, kind);
  const pod = podOf(found);
  assert.ok(pod !== null);
  return pod;
}

test('nothing is taken away unless it is asked for', async () => {
  assert.deepEqual(hooksOf(await rendered()), []);
});

test('the pods that clean come when the release is gone, before what waits for them and takes them away', async () => {
  const hooks = hooksOf(await rendered(...enabled));
  const weight = (kind: string): number =>
    Number(hooks.find((each) => each.kind === kind)?.metadata.annotations?.['helm.sh/hook-weight']);
  assert.deepEqual(hooks.map(({ kind }) => kind).toSorted(), [
    'ConfigMap',
    'DaemonSet',
    'Job',
    'Role',
    'RoleBinding',
    'ServiceAccount',
  ]);
  assert.ok(weight('ServiceAccount') < weight('DaemonSet') && weight('Role') < weight('Job'));
  assert.ok(weight('DaemonSet') < weight('Job'));
  // Helm takes away what has succeeded when a later hook fails, and the pods that clean are to go on with nodes that come back.
  for (const { kind, metadata } of hooks) {
    const policy = metadata.annotations?.['helm.sh/hook-delete-policy'];
    const whenDone = kind === 'DaemonSet' ? '' : ',hook-succeeded';
    assert.equal(policy, `before-hook-creation${whenDone}`, kind);
    // Argo CD makes a hook that is gone again, and takes away at the end what one of the two policies names.
    const ofArgo = metadata.annotations?.['argocd.argoproj.io/hook-delete-policy'];
    assert.equal(ofArgo, kind === 'DaemonSet' ? 'HookSucceeded' : undefined, kind);
  }
});

test('the pod that cleans finds what the agent made where the agent made it, and may do no more than the agent', async () => {
  const values = [
    'gate.enabled=false',
    'gate.confDir=/x/net.d',
    'gate.binDir=/x/bin',
    'runDir=/x/run',
    'stateDir=/x/state',
    'agent.options.bpffsDir=/sys/fs/bpf/other',
    'agent.options.routingTable=99',
  ];
  const set = ['--set', values.join(',')];
  const { initContainers = [], hostNetwork, ...pod } = await podOfHook('DaemonSet', ...set);
  const [remove] = initContainers;
  assert.ok(remove !== undefined);
  assert.equal(hostNetwork, true);
  assert.equal(pod.automountServiceAccountToken, false);
  assert.deepEqual(remove.args, ['remove']);
  const agents = (await rendered(...set)).find(
    (each) => each.metadata.name === 'tandem-agent' && each.kind === 'DaemonSet',
  );
  const [agent] = (agents === undefined ? null : podOf(agents))?.containers ?? [];
  assert.ok(agent !== undefined);
  assert.deepEqual(remove.securityContext, agent.securityContext);
  const mounts = new Map(remove.volumeMounts?.map((each) => [each.name, each.mountPath]));
  assert.deepEqual(Object.fromEntries(mounts), {
    bpf: '/sys/fs/bpf',
    run: '/x/run',
    state: '/x/state',
    'cni-conf': '/x/net.d',
    'cni-bin': '/x/bin',
  });
  const env = new Map(remove.env?.map((each) => [each.name, each.value]));
  assert.equal(env.get('TANDEM_BPFFS_DIR'), '/sys/fs/bpf/other');
  assert.equal(env.get('TANDEM_ROUTING_TABLE'), '99');
  // A gate that was turned off may still be in the chain.
  assert.equal(env.get('TANDEM_CNI_CONF_DIR'), '/x/net.d');
  assert.equal(env.get('TANDEM_CNI_BIN_DIR'), '/x/bin');
});

test('once a node is clean its pod may do nothing', async () => {
  const { containers } = await podOfHook('DaemonSet');
  const [{ securityContext, volumeMounts } = assert.fail()] = containers;
  assert.deepEqual(securityContext['capabilities'], { drop: ['ALL'] });
  assert.equal(securityContext['runAsNonRoot'], true);
  assert.equal(volumeMounts, undefined);
});

test('what waits needs no network of pods, and may do with one DaemonSet what it needs to', async () => {
  assert.equal((await podOfHook('Job')).hostNetwork, true);
  const role = hooksOf(await rendered(...enabled)).find((each) => each.kind === 'Role');
  assert.deepEqual((role as unknown as { readonly rules: unknown }).rules, [
    {
      apiGroups: ['apps'],
      resources: ['daemonsets'],
      resourceNames: ['tandem-uninstall'],
      verbs: ['get', 'delete'],
    },
    { apiGroups: [''], resources: ['pods'], verbs: ['list'] },
  ]);
});

test('what waits goes to no node that is away, and to tainted ones whose taints are named', async () => {
  const named = { key: 'dedicated', operator: 'Exists' };
  const set = ['--set-json', `tolerations=[{"operator":"Exists"},${JSON.stringify(named)}]`];
  const { tolerations } = (await podOfHook('Job', ...set)) as unknown as {
    readonly tolerations: readonly { readonly key?: string }[];
  };
  assert.deepEqual(
    tolerations.map(({ key }) => key),
    ['node-role.kubernetes.io/control-plane', named.key],
  );
});

test('the gate can be left for runtimes that end pods by it', async () => {
  const { initContainers } = await podOfHook('DaemonSet', '--set', 'cleanup.keepGateProgram=true');
  assert.deepEqual(initContainers?.[0]?.args, ['remove', '--keep-gate-program']);
});
