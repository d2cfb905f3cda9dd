// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The controller among what others left: definitions and conditions of theirs, objects of odd shape, an API server that refuses. */

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { definitions } from '@tandem/controller/definitions';
import { conditionMessageBytesMax } from '@tandem/controller/limits';
import { waitFor } from '@tandem/testing/wait';
import {
  ControllerBed,
  definitionsPath,
  type Json,
  namespace,
  type RunningController,
} from './controller-bed.ts';

const policiesPath = '/apis/cilium.io/v2/namespaces/default/ciliumnetworkpolicies';
const clusterwidePath = '/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies';
const networkPath = '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies';
const rolesPath = '/apis/rbac.authorization.k8s.io/v1/clusterroles/tandem-controller';
const merge = 'application/merge-patch+json';
const [cnpDefinition, ccnpDefinition] = definitions;
const versionLabel = 'tandem.dev/definition-version';
const anything = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };

interface Policy {
  readonly metadata: { readonly name: string };
  readonly status?: {
    readonly conditions?: readonly { readonly type: string; readonly message?: string }[];
  };
}

let bed: ControllerBed;

const goodSpec = { endpointSelector: {}, egress: [{ toCIDR: ['192.0.2.0/24'] }] };
const badSpec = { endpointSelector: {}, egress: [{ toCIDR: ['x'] }] };
/** Spec of a NetworkPolicy of which an event says that its egress has no effect. */
const halfSpec = { podSelector: {}, policyTypes: ['Ingress'], egress: [{}] };
const policy = (name: string, spec: object, kind = 'CiliumNetworkPolicy'): Json => ({
  ...{ apiVersion: 'cilium.io/v2', kind, metadata: { name }, spec },
});

function definitionOf(
  given: (typeof definitions)[number] | undefined,
  change: { readonly labels?: Json; readonly schema?: Json; readonly subresources?: Json } = {},
): Json {
  assert.ok(given !== undefined);
  const { versions } = given.spec as { readonly versions: readonly [Json] };
  const [version] = versions;
  const { labels = {}, schema, subresources } = change;
  return {
    ...{ apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition' },
    metadata: { name: given.name, labels },
    spec: {
      ...given.spec,
      versions: [
        {
          ...version,
          ...(schema === undefined ? {} : { schema: { openAPIV3Schema: schema } }),
          ...(subresources === undefined ? {} : { subresources }),
        },
      ],
    },
  };
}

async function define(...objects: readonly Json[]): Promise<void> {
  for (const object of objects) await bed.api.call('POST', definitionsPath, object);
  const paths = [policiesPath, clusterwidePath];
  await waitFor(
    async () => {
      const answers = await Promise.all(paths.map((path) => bed.api.ask('GET', path)));
      return answers.filter(({ status }) => status === 200).length >= objects.length;
    },
    { what: 'the kinds', timeoutMs: 30_000 },
  );
}

async function undefine(): Promise<void> {
  for (const { name } of definitions) {
    const path = `${definitionsPath}/${name}`;
    await bed.api.ask('DELETE', path);
    await waitFor(async () => (await bed.api.ask('GET', path)).status === 404, {
      what: `${name} is gone`,
      timeoutMs: 30_000,
    });
  }
}

async function policyAt(path: string): Promise<Policy> {
  return (await bed.api.call('GET', path)) as unknown as Policy;
}

const messageIn = ({ status }: Policy): string =>
  status?.conditions?.find(({ type }) => type === 'Valid')?.message ?? '';

async function says(path: string, message: RegExp): Promise<string> {
  return waitFor(
    async () => {
      const text = messageIn(await policyAt(path));
      return message.test(text) ? text : null;
    },
    { what: `${path} says ${message}`, timeoutMs: 20_000 },
  );
}

const counted = (leader: RunningController, target: string, result: string): Promise<number> =>
  bed.metric(leader, `tandem_controller_writes_total{target="${target}",result="${result}"}`);

async function counts(leader: RunningController, target: string, result: string): Promise<void> {
  await waitFor(async () => (await counted(leader, target, result)) > 0, {
    what: `${target} ${result}`,
    timeoutMs: 20_000,
  });
}

async function startLeader(
  name: string,
  args: readonly string[] = [],
  token?: string,
): Promise<RunningController> {
  const controller = await bed.startController(name, args, token);
  await waitFor(async () => (await bed.metric(controller, 'tandem_controller_leader')) === 1, {
    what: `${name} leads`,
    timeoutMs: 20_000,
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${controller.process.stderr()}`);
  });
  return controller;
}

describe('the controller among others', () => {
  before(async () => {
    bed = await ControllerBed.start(['admission.traps=off']);
  });
  afterEach(async () => {
    await bed.stopControllers();
    await bed.api.ask('DELETE', networkPath);
    await undefine();
  });
  after(() => bed[Symbol.asyncDispose]());

  test("Cilium's definitions stay to the octet, and conditions are written by them", async () => {
    const labels = { 'io.cilium.k8s.crd.schema.version': '1.32.9' };
    // As of Cilium 1.20: conditions are a list that is a map by type, with no field more than these.
    const text = { type: 'string' };
    const items = {
      type: 'object',
      required: ['status', 'type'],
      properties: {
        lastTransitionTime: { type: 'string', format: 'date-time' },
        message: text,
        reason: text,
        status: text,
        type: text,
      },
    };
    const conditions = {
      type: 'array',
      items,
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['type'],
    };
    const schema = {
      type: 'object',
      properties: {
        spec: anything,
        specs: { type: 'array', items: anything },
        status: { type: 'object', properties: { conditions } },
      },
    };
    await define(
      definitionOf(cnpDefinition, { labels, schema }),
      definitionOf(ccnpDefinition, { labels, schema }),
    );
    const stampOf = async (): Promise<unknown> => {
      const { metadata, spec } = await bed.api.call(
        'GET',
        `${definitionsPath}/${cnpDefinition?.name}`,
      );
      const { generation, labels: found } = metadata as Json;
      return { generation, found, spec };
    };
    const former = await stampOf();
    const leader = await startLeader('guest', ['--crds-install', 'always']);
    await bed.ready(leader);
    await bed.api.call('POST', policiesPath, policy('bad', badSpec));
    await says(`${policiesPath}/bad`, /^spec\.egress\[0\]\.toCIDR\[0\]/);
    assert.deepEqual(await stampOf(), former);
    const state = `tandem_controller_definitions{definition="${cnpDefinition?.name}",state="foreign"}`;
    await bed.metricIs(leader, state, 1);
  });

  test('a definition of the chart before is brought to this version, a later one stays', async () => {
    const unmarked = cnpDefinition?.unmarkedSchema as Json;
    await define(
      definitionOf(cnpDefinition, { schema: unmarked }),
      definitionOf(ccnpDefinition, { labels: { [versionLabel]: '99' }, schema: unmarked }),
    );
    await bed.api.call('POST', policiesPath, policy('old', badSpec));
    const leader = await startLeader('upgrader', ['--crds-install', 'always']);
    const versionOf = async (name: string | undefined): Promise<unknown> => {
      const { metadata } = await bed.api.call('GET', `${definitionsPath}/${name}`);
      return ((metadata as Json)['labels'] as Json | undefined)?.[versionLabel];
    };
    await waitFor(async () => (await versionOf(cnpDefinition?.name)) === '2', {
      what: 'the version',
      timeoutMs: 20_000,
    });
    await says(`${policiesPath}/old`, /toCIDR/);
    await bed.ready(leader);
    assert.equal(await versionOf(ccnpDefinition?.name), '99');
    assert.equal((await policyAt(`${policiesPath}/old`)).metadata.name, 'old');
  });

  test('with never nothing is defined', async () => {
    const leader = await startLeader('never', ['--crds-install', 'never']);
    await bed.ready(leader);
    await bed.api.call('POST', networkPath, {
      metadata: { name: 'half' },
      spec: halfSpec,
    });
    await counts(leader, 'event', 'written');
    assert.deepEqual(
      bed.writesOf('never').filter(({ path }) => path.includes('customresourcedefinitions')),
      [],
    );
    assert.equal((await bed.api.ask('GET', policiesPath)).status, 404);
  });

  test('where conditions are one list, what others wrote stays', async () => {
    // Another owner's definition, in which nothing is said of status.
    const labels = { owner: 'somebody' };
    const schema = { type: 'object', properties: { spec: anything, status: anything } };
    await define(
      definitionOf(cnpDefinition, { labels, schema }),
      definitionOf(ccnpDefinition, { labels, schema }),
    );
    const conditions = [{ type: 'Audited', status: 'True' }];
    await bed.api.call('POST', policiesPath, policy('theirs', badSpec));
    await bed.api.call('PATCH', `${policiesPath}/theirs/status`, { status: { conditions } }, merge);
    await bed.api.call('POST', policiesPath, policy('free', badSpec));
    const leader = await startLeader('listed');
    await says(`${policiesPath}/free`, /toCIDR/);
    await counts(leader, 'condition', 'foreign');
    assert.deepEqual((await policyAt(`${policiesPath}/theirs`)).status?.conditions, conditions);
    // Who takes ours with his own is not overwritten either.
    const [ours] = (await policyAt(`${policiesPath}/free`)).status?.conditions ?? [];
    const both = { status: { conditions: [ours, ...conditions] } };
    await bed.api.call('PATCH', `${policiesPath}/free/status`, both, merge);
    await bed.api.call('PATCH', `${policiesPath}/free`, { spec: goodSpec }, merge);
    await waitFor(async () => (await counted(leader, 'condition', 'foreign')) >= 2, {
      what: 'the second conflict',
      timeoutMs: 20_000,
    });
    assert.equal((await policyAt(`${policiesPath}/free`)).status?.conditions?.length, 2);
  });

  test('a kind without a status is left alone, and the other one is not', async () => {
    const labels = { owner: 'somebody' };
    await define(
      definitionOf(cnpDefinition, { labels, subresources: {} }),
      definitionOf(ccnpDefinition),
    );
    for (let i = 0; i < 50; i++) {
      await bed.api.call('POST', policiesPath, policy(`p${i}`, badSpec));
    }
    const wide = policy('wide', badSpec, 'CiliumClusterwideNetworkPolicy');
    await bed.api.call('POST', clusterwidePath, wide);
    const leader = await startLeader('statusless');
    await says(`${clusterwidePath}/wide`, /toCIDR/);
    const paused = 'tandem_controller_queue_total{kind="CiliumNetworkPolicy",turn="paused"}';
    await waitFor(async () => (await bed.metric(leader, paused)) > 0, {
      what: 'a pause',
      timeoutMs: 20_000,
    });
    assert.match(leader.process.stderr(), /the definition of the kind has no status/);
    const writes = bed.writesOf('statusless').filter(({ path }) => path.includes('/p'));
    assert.deepEqual(writes, []);
  });

  test('objects that go, are huge, or have lost their managers neither stop nor harm the others', async () => {
    await define(definitionOf(cnpDefinition), definitionOf(ccnpDefinition));
    const leader = await startLeader('odd');
    const many = {
      endpointSelector: {},
      egress: Array.from({ length: 1000 }, (_, i) => ({ toCIDR: [`bad${i}`], [`nope${i}`]: 1 })),
    };
    await bed.api.call('POST', policiesPath, policy('many', many));
    await bed.api.call('POST', policiesPath, policy('huge', badSpec));
    const nodes = Object.fromEntries(
      Array.from({ length: 4000 }, (_, i) => [
        `node-${i}`,
        { enforcing: true, text: 'x'.repeat(200) },
      ]),
    );
    await bed.api.call('PATCH', `${policiesPath}/huge/status`, { status: { nodes } }, merge);
    const message = await says(`${policiesPath}/many`, /and \d+ more( errors)?$/);
    assert.ok(Buffer.byteLength(message) <= conditionMessageBytesMax);
    await says(`${policiesPath}/huge`, /toCIDR/);
    const { status } = (await bed.api.call('GET', `${policiesPath}/huge`)) as {
      readonly status: { readonly nodes: Json };
    };
    assert.equal(Object.keys(status.nodes).length, 4000);
    // A client that clears managedFields leaves no owner.
    const cleared = { metadata: { managedFields: [{}] } };
    await bed.api.call('PATCH', `${policiesPath}/huge`, cleared, merge);
    await bed.api.call('PATCH', `${policiesPath}/huge`, { spec: goodSpec }, merge);
    await waitFor(
      async () =>
        /succeeded/.test(messageIn(await policyAt(`${policiesPath}/huge`))) ||
        (await counted(leader, 'condition', 'foreign')) > 0,
      { what: 'a word on it', timeoutMs: 20_000 },
    );
    await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        await bed.api.call('POST', policiesPath, policy(`brief${i}`, badSpec));
        await bed.api.call('DELETE', `${policiesPath}/brief${i}`);
      }),
    );
    // A name of 253 characters, and a spec that is no policy at all.
    const long = 'n'.repeat(253);
    await bed.api.call('POST', policiesPath, policy(long, badSpec));
    await bed.api.call('POST', policiesPath, policy('hollow', {}));
    await says(`${policiesPath}/${long}`, /toCIDR/);
    await says(`${policiesPath}/hollow`, /./);
    assert.equal(leader.process.child.exitCode, null);
  });

  test('an API server that refuses is asked once a minute, and what it allows goes on', async () => {
    await define(definitionOf(cnpDefinition), definitionOf(ccnpDefinition));
    for (let i = 0; i < 100; i++) {
      await bed.api.call('POST', policiesPath, policy(`p${i}`, badSpec));
    }
    const role = await bed.api.call('GET', rolesPath);
    const rules = role['rules'] as readonly { readonly resources: readonly string[] }[];
    const isStatus = (each: { readonly resources: readonly string[] }): boolean =>
      each.resources.some((resource) => resource.endsWith('/status'));
    const fewer = { rules: rules.filter((each) => !isStatus(each)) };
    await bed.api.call('PATCH', rolesPath, fewer, merge);
    try {
      const probe = `${policiesPath}/p0/status?dryRun=All`;
      await waitFor(
        async () => (await bed.api.ask('PATCH', probe, {}, merge, bed.token)).status === 403,
        { what: 'the right is gone', timeoutMs: 20_000 },
      );
      const leader = await startLeader('refused');
      await bed.api.call('POST', networkPath, {
        metadata: { name: 'half' },
        spec: halfSpec,
      });
      await counts(leader, 'event', 'written');
      await counts(leader, 'condition', 'forbidden');
      assert.ok((await counted(leader, 'condition', 'forbidden')) <= 4);
    } finally {
      await bed.api.call('PATCH', rolesPath, { rules }, merge);
    }
  });

  test('without rights to the lease nobody leads, and readiness says why', async () => {
    const accounts = `/api/v1/namespaces/${namespace}/serviceaccounts`;
    await bed.api.call('POST', accounts, { metadata: { name: 'nobody' } });
    const { status } = await bed.api.call('POST', `${accounts}/nobody/token`, { spec: {} });
    const { token } = status as { readonly token: string };
    const controller = await bed.startController('nobody', [], token);
    await waitFor(() => /the lease cannot be read or written/.test(controller.process.stderr()), {
      what: 'the log',
      timeoutMs: 20_000,
    });
    const ready = await controller.get('/readyz');
    assert.match(ready, /^503/);
    assert.match(ready, /the lease has not been read/);
    assert.deepEqual(bed.writesOf('nobody'), []);
  });

  test('2,000 policies at the start are written in the pace of the queue, over one list', async () => {
    await define(definitionOf(cnpDefinition), definitionOf(ccnpDefinition));
    const count = 2000;
    const pending = Array.from({ length: count }, (_, i) => i);
    const create = async (): Promise<void> => {
      for (let i = pending.pop(); i !== undefined; i = pending.pop()) {
        await bed.api.call('POST', policiesPath, policy(`p${i}`, i % 2 === 0 ? goodSpec : badSpec));
      }
    };
    await Promise.all(Array.from({ length: 8 }, create));
    const leader = await startLeader('many');
    await waitFor(async () => (await counted(leader, 'condition', 'written')) >= 200, {
      what: 'writes',
      timeoutMs: 60_000,
    });
    const writes = bed.writesOf('many');
    const [first, last] = [writes[0], writes.at(-1)];
    assert.ok(first !== undefined && last !== undefined);
    const seconds = (last.atMs - first.atMs) / 1000;
    // 40 at once, 20 a second, 4 under way.
    assert.ok(writes.length <= 40 + 20 * seconds + 8, `${writes.length} in ${seconds} s`);
    const others = bed
      .audited()
      .filter(
        ({ controller, verb, path }) =>
          controller === 'many' && verb !== 'patch' && !path.includes('/leases'),
      );
    const lists = others.filter(({ verb }) => verb === 'watch' || verb === 'list');
    assert.equal(new Set(lists.map(({ path }) => path.split('?')[0])).size, lists.length);
    // The definitions of the kinds: three at each look.
    assert.ok(others.length - lists.length <= 20, JSON.stringify(others));
    assert.equal(await counted(leader, 'condition', 'busy'), 0);
  });
});
