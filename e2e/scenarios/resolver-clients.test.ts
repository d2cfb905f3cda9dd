// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Behaviour of resolver libraries at a denial, with Kubernetes' search list and ndots:5, in a pod that may ask
 * *.allowed.test alone: whether they find an allowed name, and how long a denied one takes. The table is that of
 * docs/policy.md.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { type Lookup, ResolverClients } from '../kit/resolver-clients.ts';
import {
  clusterDns4,
  clusterDns6,
  type StandardNode,
  startStandardNode,
} from '../kit/standard-node.ts';

const denials = ['search', 'nxdomain', 'refused'] as const;

/** By denial, in the order above. */
type Cells = readonly [string, string, string];

interface Row {
  /** First column in docs/policy.md. */
  readonly label: string;
  readonly clients: readonly string[];
  /** "found" or "not found", and how long that took if that is a second or more. */
  readonly allowed: Cells;
  /** "at once" is under a second. */
  readonly denied: Cells;
}

const alwaysFound: Cells = ['found', 'found', 'found'];
const notFoundAtRefused: Cells = ['found', 'found', 'not found'];
const atOnce: Cells = ['at once', 'at once', 'at once'];
const rows: readonly Row[] = [
  {
    label: 'glibc, also with `rotate`, `single-request`, `use-vc` or `edns0`',
    clients: ['glibc', 'glibc rotate', 'glibc single-request', 'glibc use-vc', 'glibc edns0'],
    allowed: alwaysFound,
    denied: atOnce,
  },
  // It takes REFUSED for no answer, and asks again until its timeout.
  {
    label: 'musl (Alpine)',
    clients: ['musl'],
    allowed: ['found', 'found', 'not found, 5 s'],
    denied: ['5 s', 'at once', '5 s'],
  },
  {
    label: 'c-ares (gRPC, aiodns)',
    clients: ['c-ares'],
    allowed: notFoundAtRefused,
    denied: atOnce,
  },
  { label: 'dnspython', clients: ['dnspython'], allowed: notFoundAtRefused, denied: atOnce },
  {
    label: '`dig +search`, `host`',
    clients: ['dig', 'host'],
    allowed: notFoundAtRefused,
    denied: atOnce,
  },
  { label: 'Go without cgo', clients: ['Go'], allowed: alwaysFound, denied: atOnce },
  { label: 'Java', clients: ['Java'], allowed: alwaysFound, denied: atOnce },
  {
    label: 'Node.js `lookup` and `resolve`',
    clients: ['Node.js lookup', 'Node.js resolve'],
    allowed: alwaysFound,
    denied: atOnce,
  },
];

/** As kubelet writes it for ClusterFirst: the node's own suffix comes last. */
const conf = {
  nameservers: [clusterDns4, clusterDns6],
  search: ['default.svc.cluster.local', 'svc.cluster.local', 'cluster.local', 'corp.example'],
} as const;
const names = { allowed: 'n-7.allowed.test', denied: 'n-7.denied.test' } as const;
const addresses: Readonly<Record<string, string>> = {
  'n-7.allowed.test': '198.18.0.7',
  'n-7.denied.test': '198.19.0.7',
};
/** At once: more would make each other's waits longer. */
const concurrency = 4;
/** A lookup that takes longer has waited for an answer: no client gives up sooner. */
const atOnceMs = 1000;
const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
/** Libraries of other releases may go on at REFUSED: the table has those of Debian 12. */
const isDebian12 = /^VERSION_ID="12"$/m.test(readFileSync('/etc/os-release', 'utf8'));

let built: ResolverClients | null = null;
after(() => built?.[Symbol.asyncDispose]());

for (const [column, denial] of denials.entries()) {
  describe(`with denial ${denial}`, () => {
    let node: StandardNode;
    let results: ReadonlyMap<string, Lookup>;
    before(async () => {
      node = await startStandardNode({
        options: { denial, 'search-suffixes': 'corp.example' },
        pods: [{ name: 'free' }],
      });
      built ??= await ResolverClients.build();
      results = await lookUpAll(built, node, 'client');
    });
    after(() => node[Symbol.asyncDispose]());

    for (const { label, clients, allowed, denied } of rows) {
      test(`${label}: allowed ${allowed[column]}, denied ${denied[column]}`, (context) => {
        const here = clients.filter((client) => !(built?.missing ?? []).includes(client));
        if (here.length === 0 && !isFull) {
          context.skip('not installed; ./run test --full installs it');
          return;
        }
        assert.deepEqual(here, clients, 'the long tier has all of them');
        const measured = here.map((client) => ({
          client,
          allowed: results.get(`${client} ${names.allowed}`),
          denied: results.get(`${client} ${names.denied}`),
        }));
        for (const one of measured) {
          context.diagnostic(
            `${one.client}: allowed ${tell(one.allowed)}; denied ${tell(one.denied)}`,
          );
        }
        if (denial === 'refused' && !isDebian12) return;
        for (const one of measured) {
          assert.equal(allowedCell(one.allowed), allowed[column], `${one.client}, allowed name`);
          assert.equal(deniedCell(one.denied), denied[column], `${one.client}, denied name`);
        }
      });
    }

    if (denial !== 'search') return;
    test('without policy all of them find both names', async () => {
      assert.ok(built !== null);
      for (const [what, result] of await lookUpAll(built, node, 'free')) {
        assert.equal(allowedCell(result), 'found', `${what}: ${result.output}`);
      }
    });
  });
}

describe('docs/policy.md', () => {
  const page = readFileSync(new URL('../../docs/policy.md', import.meta.url), 'utf8');
  for (const { label, allowed, denied } of rows) {
    test(`has the row of ${label}`, () => {
      const row = `| ${[label, ...allowed, ...denied].join(' | ')} |`;
      assert.ok(page.includes(row), row);
    });
  }
});

/** By client and name. */
async function lookUpAll(
  clients: ResolverClients,
  { node }: StandardNode,
  pod: string,
): Promise<ReadonlyMap<string, Lookup>> {
  const results = new Map<string, Lookup>();
  const pairs = clients.clients.flatMap((client) =>
    Object.values(names).map((name) => ({ client, name })),
  );
  const work = async (): Promise<void> => {
    for (let pair = pairs.shift(); pair !== undefined; pair = pairs.shift()) {
      const { client, name } = pair;
      const lookUp = (): Promise<Lookup> =>
        clients.lookup(node.pod(pod).namespace, client, conf, name);
      let found = await lookUp();
      // Of a whole process it may be a wait for a CPU, which does not come twice.
      if (!client.printsTime && found.milliseconds >= atOnceMs) found = await lookUp();
      results.set(`${client.name} ${name}`, found);
      const others = found.addresses.filter((address) => address !== addresses[name]);
      assert.deepEqual(others, [], `${client.name} ${name}`);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  return results;
}

function allowedCell(lookup: Lookup | undefined): string {
  assert.ok(lookup !== undefined);
  const found = lookup.addresses.length > 0 ? 'found' : 'not found';
  return lookup.milliseconds < atOnceMs ? found : `${found}, ${seconds(lookup)}`;
}

function deniedCell(lookup: Lookup | undefined): string {
  assert.ok(lookup !== undefined);
  assert.deepEqual(lookup.addresses, [], 'a denied name has no address');
  return lookup.milliseconds < atOnceMs ? 'at once' : seconds(lookup);
}

const seconds = ({ milliseconds }: Lookup): string => `${Math.floor(milliseconds / 1000)} s`;

function tell(lookup: Lookup | undefined): string {
  if (lookup === undefined) return 'not looked up';
  const { addresses: found, milliseconds, output } = lookup;
  const error =
    output
      .replace(/^\d+ - /, '')
      .split('\n')
      .at(-1) ?? '';
  return `${Math.round(milliseconds)} ms, ${found.length > 0 ? found.join(' ') : error.slice(0, 60)}`;
}
