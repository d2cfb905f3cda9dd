// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Promises of charts/tandem about its pods, as Helm renders it. Runs in `./run test --cluster`, which builds Helm. */

import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { agentCapabilities } from '@tandem/agent/privileges';
import { proxyCapabilities } from '@tandem/dns-proxy/drop-root';
import { stopMarginMs } from '@tandem/dns-proxy/limits';
import { proxyUid } from '@tandem/images/base-layer';
import { productFiles } from '@tandem/images/bundle';
import {
  chart,
  helm,
  rendered as renderedObjects,
  repository as root,
  template,
} from './helm-chart.ts';

interface Probe {
  readonly exec?: { readonly command: readonly string[] };
  readonly periodSeconds?: number;
  readonly failureThreshold?: number;
  readonly terminationGracePeriodSeconds?: number;
}
interface Container {
  readonly image: string;
  readonly env: readonly { readonly name: string; readonly value?: string }[];
  readonly ports?: unknown;
  readonly securityContext: Readonly<Record<string, unknown>>;
  readonly resources: { readonly limits?: Readonly<Record<string, string>> };
  readonly startupProbe?: Probe;
  readonly livenessProbe?: Probe;
  readonly readinessProbe?: Probe;
  readonly volumeMounts: readonly {
    readonly name: string;
    readonly mountPropagation?: string;
    readonly readOnly?: boolean;
  }[];
}
interface PodSpec {
  readonly hostNetwork: boolean;
  readonly hostUsers?: boolean;
  readonly dnsPolicy: string;
  readonly priorityClassName: string;
  readonly automountServiceAccountToken?: boolean;
  readonly shareProcessNamespace?: boolean;
  readonly terminationGracePeriodSeconds: number;
  readonly serviceAccountName?: string;
  readonly tolerations: unknown;
  readonly containers: readonly [Container];
}
interface Rendered {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly rules?: readonly Rule[];
  readonly roleRef?: { readonly kind: string; readonly name: string };
  readonly subjects?: readonly { readonly name: string }[];
  readonly spec?: {
    readonly minReadySeconds: number;
    readonly updateStrategy: { readonly rollingUpdate: Readonly<Record<string, unknown>> };
    readonly template: { readonly spec: PodSpec };
  };
}

async function rendered(...args: readonly string[]): Promise<readonly Rendered[]> {
  return (await renderedObjects(...args)) as readonly unknown[] as readonly Rendered[];
}

async function daemonSetOf(
  name: string,
  ...args: readonly string[]
): Promise<NonNullable<Rendered['spec']>> {
  const found = (await rendered(...args)).find(
    (each) => each.kind === 'DaemonSet' && each.metadata.name === `tandem-${name}`,
  );
  assert.ok(found?.spec !== undefined, name);
  return found.spec;
}

async function podOf(name: string, ...args: readonly string[]): Promise<PodSpec> {
  return (await daemonSetOf(name, ...args)).template.spec;
}

const capabilities = { agent: agentCapabilities, 'dns-proxy': proxyCapabilities } as const;

const probeCommand = ['/opt/tandem/bin/tandem-probe', '/tmp/tandem/probe.sock'] as const;

test('helm lint finds nothing', async () => {
  const { status, stdout, stderr } = await helm('lint', '--strict', chart);
  assert.equal(status, 0, stdout + stderr);
});

for (const [name, add] of Object.entries(capabilities)) {
  test(`the pod of ${name} is of the node's network, goes on every node, and is not evicted first`, async () => {
    const pod = await podOf(name);
    assert.equal(pod.hostNetwork, true);
    assert.equal(pod.dnsPolicy, 'Default');
    assert.equal(pod.priorityClassName, 'system-node-critical');
    assert.deepEqual(pod.tolerations, [{ operator: 'Exists' }]);
  });

  test(`${name} has the capabilities it needs, no more, and no way to more`, async () => {
    const { securityContext } = (await podOf(name)).containers[0];
    assert.notEqual(securityContext['privileged'], true);
    assert.equal(securityContext['allowPrivilegeEscalation'], false);
    assert.equal(securityContext['readOnlyRootFilesystem'], true);
    assert.deepEqual(securityContext['seccompProfile'], { type: 'RuntimeDefault' });
    assert.deepEqual(securityContext['capabilities'], { drop: ['ALL'], add: [...add] });
  });

  test(`${name} has no ports, memory limits alone, and a short end once it hangs`, async () => {
    const { ports, resources, startupProbe, livenessProbe, readinessProbe, volumeMounts } = (
      await podOf(name)
    ).containers[0];
    // The scheduler takes a port of a pod on the node's network for a host port.
    assert.equal(ports, undefined);
    assert.deepEqual(Object.keys(resources.limits ?? {}), ['memory']);
    assert.equal(livenessProbe?.terminationGracePeriodSeconds, 1);
    for (const [each, question] of [
      [startupProbe, 'livez'],
      [livenessProbe, 'livez'],
      [readinessProbe, 'readyz'],
    ] as const) {
      // A port of the node's network is answered by whichever process has it.
      assert.deepEqual(each?.exec?.command, [...probeCommand, question]);
    }
    // A node that is short of CPU for some seconds does not kill it: what hangs is replaced by the other member at once.
    const { periodSeconds = 10, failureThreshold = 3 } = livenessProbe;
    assert.ok(periodSeconds * failureThreshold >= 30);
    // Bidirectional would need a privileged container.
    assert.equal(
      volumeMounts.find((mount) => mount.name === 'bpf')?.mountPropagation,
      'HostToContainer',
    );
  });

  test(`${name} is replaced by a pod that stands by, and ends soon after its drain bound`, async () => {
    const { updateStrategy, minReadySeconds, template: pod } = await daemonSetOf(name);
    assert.deepEqual(updateStrategy.rollingUpdate, { maxSurge: 1, maxUnavailable: 0 });
    assert.equal(minReadySeconds, 5);
    // Process 1 cannot be ended by the one that stands by.
    assert.equal(pod.spec.shareProcessNamespace, true);
    const { env } = pod.spec.containers[0];
    const valueOf = (variable: string): string =>
      env.find((each) => each.name === variable)?.value ?? '';
    assert.equal(valueOf('TANDEM_PROBE_SOCKET'), probeCommand[1]);
    const drainSeconds = Number(/^(\d+)s$/.exec(valueOf('TANDEM_DRAIN_TIMEOUT'))?.[1]);
    assert.ok(pod.spec.terminationGracePeriodSeconds * 1000 > drainSeconds * 1000 + stopMarginMs);
    assert.ok(pod.spec.terminationGracePeriodSeconds <= 20);
    // Longer than the pull of an image, which both processes of a node wait for without surge.
    const set = 'updateStrategy.maxSurge=0,updateStrategy.maxUnavailable=10%,drainSeconds=600';
    const other = await daemonSetOf(name, '--set', set);
    assert.deepEqual(other.updateStrategy.rollingUpdate, { maxSurge: 0, maxUnavailable: '10%' });
    assert.equal(other.template.spec.terminationGracePeriodSeconds, 606);
  });

  test(`each variable of ${name} is an option of the product`, async () => {
    const documented = readFileSync(join(root, 'docs/reference/options.md'), 'utf8');
    const { env } = (await podOf(name)).containers[0];
    assert.ok(env.length >= 3);
    assert.deepEqual(
      env.filter((each) => !documented.includes(`\`${each.name}\``)).map((each) => each.name),
      [],
    );
  });
}

test('AppArmor leaves bpffs to both processes, SELinux the node too, and neither is in a user namespace of its own', async () => {
  for (const [set, profile, seLinux] of [
    ['gate.enabled=true', { type: 'Unconfined' }, { type: 'spc_t', level: 's0' }],
    ['appArmorProfile=RuntimeDefault,seLinuxOptions=null', { type: 'RuntimeDefault' }, undefined],
    ['appArmorProfile=null', undefined, { type: 'spc_t', level: 's0' }],
    [
      'appArmorProfile=tandem,seLinuxOptions.type=tandem_t',
      { type: 'Localhost', localhostProfile: 'tandem' },
      { type: 'tandem_t', level: 's0' },
    ],
  ] as const) {
    for (const name of Object.keys(capabilities)) {
      const pod = await podOf(name, '--set', set);
      assert.equal(pod.hostUsers, true);
      const { securityContext } = pod.containers[0];
      assert.deepEqual(securityContext['seLinuxOptions'], seLinux, `${name}, ${set}`);
      // The DNS proxy takes locks there.
      assert.deepEqual(securityContext['appArmorProfile'], profile, `${name}, ${set}`);
    }
  }
});

test('the DNS proxy is never root, reads the policy of the node and cannot write it', async () => {
  const { securityContext, volumeMounts } = (await podOf('dns-proxy')).containers[0];
  assert.equal(securityContext['runAsUser'], proxyUid);
  assert.equal(securityContext['runAsGroup'], proxyUid);
  assert.equal(securityContext['runAsNonRoot'], true);
  assert.equal(volumeMounts.find(({ name }) => name === 'state')?.readOnly, true);
});

test('the DNS proxy has NET_ADMIN only where it is asked for', async () => {
  const { securityContext } = (await podOf('dns-proxy', '--set', 'dnsProxy.netAdmin=true'))
    .containers[0];
  assert.deepEqual(securityContext['capabilities'], {
    drop: ['ALL'],
    add: ['NET_RAW', 'BPF', 'NET_ADMIN'],
  });
});

test('each file of the product that the chart names is in the image', async () => {
  const { env } = (await podOf('agent')).containers[0];
  const named = env.flatMap(({ value }) => (value?.startsWith('/opt/tandem/') ? [value] : []));
  const present = new Set((await productFiles(root)).map(({ path }) => `/${path}`));
  assert.equal(named.length, 2);
  assert.deepEqual(
    named.filter((path) => !present.has(path)),
    [],
  );
});

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

/** Rules that are bound to a service account of the chart. */
function rulesOf(objects: readonly Rendered[], account: string): readonly Rule[] {
  const bindings = objects.filter(({ kind }) => /^(Cluster)?RoleBinding$/.test(kind));
  return bindings
    .filter(({ subjects = [] }) => subjects.some(({ name }) => name === account))
    .flatMap(({ roleRef }) =>
      objects.filter(
        ({ kind, metadata }) => kind === roleRef?.kind && metadata.name === roleRef.name,
      ),
    )
    .flatMap(({ rules = [] }) => rules);
}

const writes = (rules: readonly Rule[]): readonly string[] =>
  rules.flatMap(({ apiGroups, resources, verbs, resourceNames = ['*'] }) =>
    verbs
      .filter((verb) => !['get', 'list', 'watch'].includes(verb))
      .flatMap((verb) =>
        apiGroups.flatMap((group) =>
          resources.flatMap((resource) =>
            resourceNames.map((name) => `${verb} ${resource}.${group} ${name}`),
          ),
        ),
      ),
  );

test('the agent reads the API and writes nothing to it; the DNS proxy has no token', async () => {
  const objects = await rendered('--set', 'controller.options.logLevel=debug');
  const rules = rulesOf(objects, 'tandem-agent');
  assert.ok(rules.length > 0);
  assert.deepEqual([...new Set(rules.flatMap(({ verbs }) => verbs))].sort(), [
    'get',
    'list',
    'watch',
  ]);
  assert.equal((await podOf('agent')).serviceAccountName, 'tandem-agent');
  const proxy = await podOf('dns-proxy');
  assert.equal(proxy.automountServiceAccountToken, false);
  assert.equal(proxy.serviceAccountName, undefined);
  // No subject but these two is bound to anything.
  const bound = objects.flatMap(({ subjects = [] }) => subjects.map(({ name }) => name));
  assert.deepEqual([...new Set(bound)].sort(), ['tandem-agent', 'tandem-controller']);
});

test('the controller writes statuses, its taint, its lease, events, and definitions', async () => {
  const definitions = ['ciliumnetworkpolicies', 'ciliumclusterwidenetworkpolicies'];
  const always = [
    ...definitions.map((each) => `patch ${each}/status.cilium.io *`),
    'patch clusternetworkpolicies/status.policy.networking.k8s.io *',
    'create events.events.k8s.io *',
    'create leases.coordination.k8s.io *',
    'update leases.coordination.k8s.io tandem-controller',
  ];
  const ofDefinitions = [
    ...[...definitions, 'ciliumlocalredirectpolicies'].map(
      (each) => `update customresourcedefinitions.apiextensions.k8s.io ${each}.cilium.io`,
    ),
    'create customresourcedefinitions.apiextensions.k8s.io *',
  ];
  for (const [set, more] of [
    ['crds.install=auto', ['patch nodes. *', ...ofDefinitions]],
    ['crds.install=never', ['patch nodes. *']],
    ['startupTaint.key=', ofDefinitions],
  ] as const) {
    const rules = rulesOf(await rendered('--set', set), 'tandem-controller');
    assert.deepEqual([...writes(rules)].sort(), [...always, ...more].sort(), set);
    const all = rules.flatMap(({ apiGroups, resources, verbs }) => [apiGroups, resources, verbs]);
    assert.ok(!all.flat().includes('*'));
  }
});

test('the controller is unprivileged, spread, and stays when the nodes are new', async () => {
  const objects = await rendered();
  const deployment = objects.find(({ kind }) => kind === 'Deployment')?.spec as unknown as {
    readonly replicas: number;
    readonly template: { readonly spec: PodSpec & Readonly<Record<string, unknown>> };
  };
  assert.equal(deployment.replicas, 2);
  const { spec } = deployment.template;
  assert.equal(spec.hostNetwork, undefined);
  assert.equal(spec.serviceAccountName, 'tandem-controller');
  const pod = spec['securityContext'] as Readonly<Record<string, unknown>>;
  assert.deepEqual(
    { ...pod },
    {
      runAsUser: proxyUid,
      runAsGroup: proxyUid,
      runAsNonRoot: true,
      fsGroup: proxyUid,
      seccompProfile: { type: 'RuntimeDefault' },
    },
  );
  const [container] = spec.containers as unknown as readonly [
    Container & { readonly command: readonly string[] },
  ];
  assert.deepEqual(container.securityContext, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  });
  assert.equal(spec['volumes'], undefined);
  assert.match(container.image, /^localhost\/tandem\/agent:/, 'an image that each node has');
  const present = new Set((await productFiles(root)).map(({ path }) => `/${path}`));
  assert.ok(present.has(container.command.at(-1) ?? ''), container.command.join(' '));
  const tolerations = spec.tolerations as readonly { readonly key: string }[];
  assert.equal(tolerations[0]?.key, 'tandem.dev/agent-not-ready');
  assert.equal((spec['topologySpreadConstraints'] as readonly unknown[]).length, 1);
  const disruption = objects.find(({ kind }) => kind === 'PodDisruptionBudget');
  assert.ok(disruption !== undefined);
  const documented = readFileSync(join(root, 'docs/reference/options.md'), 'utf8');
  const names = container.env.map(({ name }) => name).filter((name) => name !== 'POD_IP');
  assert.deepEqual(
    names.filter((name) => !documented.includes(`\`${name}\``)),
    [],
  );
});

test('without the controller nothing of it is there, and NOTES warn', async () => {
  const objects = await rendered('--set', 'controller.enabled=false');
  assert.deepEqual(
    objects.filter(({ metadata }) => /controller/.test(metadata.name)).map(({ kind }) => kind),
    [],
  );
});

test('traps of policies warn, or deny, or are off', async () => {
  for (const [traps, actions] of [
    ['warn', ['Warn', 'Audit']],
    ['deny', ['Deny', 'Audit']],
    ['off', null],
  ] as const) {
    const bindings = (await rendered('--set', `admission.traps=${traps}`)).filter(
      ({ kind, metadata }) =>
        kind === 'ValidatingAdmissionPolicyBinding' && metadata.name.endsWith('-traps'),
    );
    assert.equal(bindings.length, actions === null ? 0 : 2, traps);
    for (const { spec } of bindings) {
      assert.deepEqual(
        (spec as unknown as Readonly<Record<string, unknown>>)['validationActions'],
        actions,
      );
    }
  }
});

test('without the gate the agent writes no plugin, and can still take its gate out of the CNI chain', async () => {
  const gateMounts = ['cni-conf', 'cni-bin'];
  for (const [enabled, expected] of [
    [true, gateMounts],
    [false, ['cni-conf']],
  ] as const) {
    const { env, volumeMounts } = (await podOf('agent', '--set', `gate.enabled=${enabled}`))
      .containers[0];
    assert.equal(
      env.some((each) => each.name === 'TANDEM_CNI_CONF_DIR'),
      enabled,
    );
    const names = volumeMounts.map((mount) => mount.name);
    assert.deepEqual(
      names.filter((each) => gateMounts.includes(each)),
      expected,
    );
  }
});

test('options become variables, and the registry of both images is one value', async () => {
  const set = ['--set', 'agent.options.clusterName=prod,image.registry=registry.example'];
  const agent = (await podOf('agent', ...set)).containers[0];
  assert.equal(agent.env.find(({ name }) => name === 'TANDEM_CLUSTER_NAME')?.value, 'prod');
  for (const name of Object.keys(capabilities)) {
    const { image } = (await podOf(name, ...set)).containers[0];
    assert.match(image, new RegExp(`^registry\\.example/tandem/${name}:\\d`));
  }
});

test('numbers of a values file are options as they stand there', async () => {
  const file = join(mkdtempSync(join(tmpdir(), 'tandem-values-')), 'values.yaml');
  writeFileSync(file, 'agent: {options: {quotaNamespace: 1000000, fqdnLiveSeconds: 31536000}}\n');
  const { env } = (await podOf('agent', '--values', file)).containers[0];
  rmSync(dirname(file), { recursive: true });
  const valueOf = (variable: string): unknown => env.find(({ name }) => name === variable)?.value;
  assert.equal(valueOf('TANDEM_QUOTA_NAMESPACE'), '1000000');
  assert.equal(valueOf('TANDEM_FQDN_LIVE_SECONDS'), '31536000');
});

test('helm test has a policy and a pod under it, and one that only looks; both may do nothing else', async () => {
  const objects = await rendered('--set', 'test.reachName=api.example.com,test.reachPort=80');
  const pods = objects.filter(({ kind }) => kind === 'Pod') as unknown as readonly {
    readonly metadata: Readonly<Record<'annotations' | 'labels', Readonly<Record<string, string>>>>;
    readonly spec: PodSpec;
  }[];
  assert.equal(pods.length, 2);
  for (const { metadata, spec } of pods) {
    assert.equal(metadata.annotations['helm.sh/hook'], 'test');
    assert.equal(spec.automountServiceAccountToken, false);
    assert.equal(spec.hostNetwork, undefined);
    const { securityContext, env } = spec.containers[0];
    assert.deepEqual(securityContext['capabilities'], { drop: ['ALL'] });
    assert.equal(securityContext['runAsNonRoot'], true);
    const expected = env.find(({ name }) => name === 'EXPECTED')?.value;
    if (expected === undefined) continue;
    assert.deepEqual(JSON.parse(expected), {
      agent: { uid: 0, capabilities: capabilities.agent },
      'dns-proxy': { uid: proxyUid, capabilities: capabilities['dns-proxy'] },
    });
  }
});

test('NOTES say what to do next, and what is not as it should be', async () => {
  // Only an installation shows them: here a template of a copy of the chart has them in it.
  const copy = mkdtempSync(join(tmpdir(), 'tandem-chart-'));
  after(() => rmSync(copy, { recursive: true }));
  cpSync(chart, copy, { recursive: true });
  const file = 'templates/notes.yaml';
  writeFileSync(join(copy, file), '{{ dict "notes" (tpl (.Files.Get "NOTES.txt") .) | toJson }}');
  cpSync(join(chart, 'templates/NOTES.txt'), join(copy, 'NOTES.txt'));
  const notes = async (...args: readonly string[]): Promise<string> => {
    const options = ['--kube-version', '1.36.3', '--show-only', file, ...args];
    const { stdout, stderr } = await helm('template', 'tandem', copy, ...options);
    assert.match(stdout, /"notes"/, stderr);
    return (JSON.parse(stdout.slice(stdout.indexOf('{'))) as { readonly notes: string }).notes;
  };
  const usual = await notes();
  for (const each of [
    /rollout status/,
    /tandem\.js .* status/,
    /helm test tandem/,
    /cleanup\.onUninstall=true/,
    /tandem\.dev\/agent-not-ready:NoSchedule/,
    /pod-security\.kubernetes\.io\/enforce=privileged/,
  ]) {
    assert.match(usual, each);
  }
  assert.doesNotMatch(usual, /WARNING/);
  const set =
    'gate.enabled=false,updateStrategy.maxSurge=0,updateStrategy.maxUnavailable=1,controller.enabled=false';
  assert.equal((await notes('--set', set)).match(/WARNING/g)?.length, 3);
});

for (const [what, args, message] of [
  ['a value that is not there', ['--set', 'nope=1'], /'nope' not allowed/],
  ['one below agent', ['--set', 'agent.nope=1'], /'nope' not allowed/],
  ['a port out of range', ['--set', 'agent.metricsPort=70000'], /metricsPort/],
  ['surge and unavailable', ['--set', 'updateStrategy.maxUnavailable=1'], /updateStrategy/],
  ['neither of them', ['--set', 'updateStrategy.maxSurge=0'], /updateStrategy/],
  ['a value of the test that is not there', ['--set', 'test.nope=1'], /'nope' not allowed/],
  [
    'a value of the controller that is not there',
    ['--set', 'controller.nope=1'],
    /'nope' not allowed/,
  ],
  ['no controllers', ['--set', 'controller.replicas=0'], /replicas/],
  ['a taint without a prefix', ['--set', 'startupTaint.key=nope'], /startupTaint/],
  ['another way to install CRDs', ['--set', 'crds.install=sometimes'], /install/],
  ['another way with traps', ['--set', 'admission.traps=panic'], /traps/],
  ['a relative directory', ['--set', 'runDir=run'], /runDir/],
  ['an old Kubernetes', ['--kube-version', '1.31.0'], /kubeVersion/],
] as const) {
  test(`${what} is refused before anything is installed`, async () => {
    const { status, stderr } = await template(...args);
    assert.notEqual(status, 0);
    assert.match(stderr, message);
  });
}
