// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The kernel's lookups over what compilation produced, against a reading of the same policies that
 * knows neither classes nor prefixes nor folding: for random policies and packets both must agree.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { compileObjects, endpointAt } from '../../../test/cluster-fixture.ts';
import { Kernel } from '../../../test/kernel-fixture.ts';
import {
  baseObjects,
  learnedFixture,
  type Packet,
  packetsFixture,
  pods,
  policiesFixture,
  policyObject,
  read,
} from '../../../test/random-policy.ts';
import { compileTiers, judgeOf, readTiers, tiersFixture } from '../../../test/random-tiers.ts';
import { EndpointFlag } from '../model/kernel-numbers.ts';
import { StableIds } from '../model/stable-ids.ts';

const ipOf = ({ pod }: Packet): string => pods[pod]?.ips[0] as string;

const options = { seed: 20261121, numRuns: 400 };

test('judge over the compiled maps gives what the policies say', () => {
  fc.assert(
    fc.property(policiesFixture, packetsFixture, learnedFixture, (policies, packets, learned) => {
      const compiled = compileObjects([...baseObjects, ...policies.map(policyObject)]);
      const kernel = new Kernel(compiled, [compiled]);
      for (const packet of packets) {
        const got = kernel.judge(ipOf(packet), packet, compiled, learned);
        assert.equal(got, read(policies, packet, learned), JSON.stringify(packet));
      }
    }),
    options,
  );
});

test('the tiers: the first rule that matches, then the other kinds, then the baseline', () => {
  const fixtures = [fc.oneof(fc.constant([]), policiesFixture), tiersFixture] as const;
  fc.assert(
    fc.property(
      ...fixtures,
      packetsFixture,
      learnedFixture,
      (policies, tiers, packets, learned) => {
        const compiled = compileTiers(policies, tiers);
        const kernel = new Kernel(compiled, [compiled]);
        for (const packet of packets) {
          const got = kernel.judge(ipOf(packet), packet, compiled, learned);
          assert.equal(got, readTiers(policies, tiers, packet, learned), JSON.stringify(packet));
        }
      },
    ),
    { ...options, numRuns: Number(process.env['TANDEM_MODEL_RUNS'] ?? 400) },
  );
});

test('the tiers for DNS servers: a denial refuses, an Accept lifts names, a Pass leaves them', () => {
  const fixtures = [fc.oneof(fc.constant([]), policiesFixture), tiersFixture] as const;
  const kinds = { allow: ['plain', 'names'], l7: ['names'], deny: ['deny'], none: ['none'] };
  fc.assert(
    fc.property(...fixtures, packetsFixture, (policies, tiers, packets) => {
      const compiled = compileTiers(policies, tiers);
      const kernel = new Kernel(compiled, [compiled]);
      const judges = pods.map((_, index) => judgeOf(policies, tiers, index));
      for (const packet of packets) {
        const { peer, port, protocol } = packet;
        if (packet.direction !== 'egress' || (protocol !== 6 && protocol !== 17)) continue;
        const { flags } = endpointAt(compiled, ipOf(packet));
        if ((flags & EndpointFlag.enforceEgress) === 0) continue;
        const verdict = judges[packet.pod]?.judge(kernel.who(peer), protocol, port);
        const want = readTiers(policies, tiers, packet, new Map());
        const label = `${JSON.stringify(packet)}: ${verdict?.kind}, not as ${want}`;
        assert(kinds[want].includes(verdict?.kind ?? ''), label);
        const isAccepted = want === 'allow' && verdict?.kind === 'names';
        assert(!isAccepted || verdict.names.matchAll, label);
      }
    }),
    options,
  );
});

test('policies of before hold unchanged over the classes of after, until endpoints are flipped', () => {
  fc.assert(
    fc.property(
      policiesFixture,
      policiesFixture,
      packetsFixture,
      learnedFixture,
      (before, after, packets, learned) => {
        const first = compileObjects([...baseObjects, ...before.map(policyObject)]);
        const second = compileObjects(
          [...baseObjects, ...after.map(policyObject)],
          { retain: [first] },
          first.ids,
        );
        const kernel = new Kernel(second, [first, second]);
        for (const packet of packets) {
          const label = JSON.stringify(packet);
          assert.equal(
            kernel.judge(ipOf(packet), packet, first, learned),
            read(before, packet, learned),
            label,
          );
          assert.equal(
            kernel.judge(ipOf(packet), packet, second, learned),
            read(after, packet, learned),
            label,
          );
        }
        const known = new Set(second.members.policies.map(({ id }) => id));
        for (const id of first.policies.keys()) assert(known.has(id), 'members know the old ids');
      },
    ),
    { ...options, numRuns: 150 },
  );
});

test('neither the order of objects nor a restart changes anything', () => {
  fc.assert(
    fc.property(
      policiesFixture,
      fc.infiniteStream(fc.nat({ max: 1_000_000 })),
      (policies, random) => {
        const objects = [...baseObjects, ...policies.map(policyObject)];
        const plain = compileObjects(objects);
        const shuffled = objects
          .map((object) => ({ object, rank: random.next().value as number }))
          .sort((left, right) => left.rank - right.rank)
          .map(({ object }) => object);
        const reloaded = StableIds.decode(JSON.parse(JSON.stringify(plain.ids.encode())));
        assert(reloaded.ok);
        for (const other of [
          compileObjects(shuffled),
          compileObjects(shuffled, {}, reloaded.value),
        ]) {
          const { ids: _ids, rules, ...rest } = other;
          const { ids: _plainIds, rules: plainRules, ...want } = plain;
          assert.deepEqual(rest, want);
          assert.deepEqual(rules.all(), plainRules.all());
        }
      },
    ),
    { ...options, numRuns: 100 },
  );
});
