// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Other software of the node uses the bit of the packet mark that Tandem would take: the agent takes another,
 * and the DNS proxy follows it. What cannot be served together is refused and named: no query is lost for it.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readPinnedSettings } from '@tandem/datapath/group-settings';
import { exitCodes } from '@tandem/runtime/lifecycle';
import { askDns } from '@tandem/testing/dns-query';
import { createNode, type TestNode } from '@tandem/testing/netns';
import { waitFor } from '@tandem/testing/wait';
import { degradedOf, waitForDegraded, waitForMended } from '../kit/admin.ts';
import { canConnect } from '../kit/attack.ts';
import { doctorOf } from '../kit/doctor.ts';
import {
  clusterDns4,
  clusterDns6,
  type StandardNode,
  startStandardNode,
} from '../kit/standard-node.ts';
import { type ProcessName, TandemNode } from '../kit/tandem-node.ts';

/** How soon a rule of others is told: nft and iptables are read at most every 10 s. */
const toldMs = 30_000;
const denied = '203.0.113.9';
let nextName = 1;

/** CNI portmap, as it writes its rules with another bit. */
const foreignRules: Readonly<Record<'iptables' | 'nft', (node: TestNode) => Promise<unknown>>> = {
  iptables: ({ node }) =>
    node.run(
      'iptables-restore',
      ['--noflush'],
      `*nat
:CNI-HOSTPORT-SETMARK - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x1000/0x1000
-A CNI-HOSTPORT-MASQ -m mark --mark 0x1000/0x1000 -j MASQUERADE
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
COMMIT
`,
    ),
  nft: ({ node }) =>
    node.run(
      'nft',
      ['-f', '-'],
      `table inet cni_hostport {
  chain masquerading { type nat hook postrouting priority srcnat; meta mark & 0x1000 == 0x1000 masquerade; }
  chain hostports { type nat hook prerouting priority dstnat; tcp dport 8080 meta mark set meta mark | 0x1000; }
}
`,
    ),
};
const removal: Readonly<Record<'iptables' | 'nft', readonly string[]>> = {
  iptables: ['iptables', '-t', 'nat', '-F'],
  nft: ['nft', 'delete', 'table', 'inet', 'cni_hostport'],
};

const markOf = ({ tandem }: StandardNode): number | undefined =>
  readPinnedSettings(tandem.pinRoot)?.mark;

/** Answers to so many questions, by both transports and families in turn. */
async function answered({ client }: StandardNode, questions: number): Promise<number> {
  let count = 0;
  for (let at = 0; at < questions; at++) {
    const options = {
      server: at % 4 < 2 ? clusterDns4 : clusterDns6,
      name: `n-${nextName++}.allowed.test`,
      transport: at % 2 === 0 ? ('udp' as const) : ('tcp' as const),
    };
    const answer = await askDns(client, options).catch(() => null);
    if (answer?.rcode === 'NOERROR') count += 1;
  }
  return count;
}

async function servesAlone(standard: StandardNode, name: ProcessName): Promise<void> {
  await standard.tandem.kill(name === 'agent' ? 'proxy' : 'agent');
  assert.equal(await answered(standard, 8), 8, `${name} alone: ${standard.tandem.logs()}`);
}

async function restart({ tandem }: StandardNode, name: ProcessName): Promise<void> {
  await tandem.startProcess(name);
  try {
    await tandem.waitForMembers(['agent', 'proxy']);
  } catch (e) {
    console.log(tandem.logs(), tandem.members(), tandem.appliedRevision());
    throw e;
  }
}

for (const form of ['iptables', 'nft'] as const) {
  test(`the bit is used by rules of ${form}: the agent takes the next one, both serve with it, a restart keeps it`, async () => {
    await using standard = await startStandardNode({
      prepare: async (node) => void (await foreignRules[form](node)),
    });
    const { tandem, node } = standard;
    assert.equal(markOf(standard), 0x40, tandem.logs());
    assert.match(tandem.process('agent').stderr(), /mark of steered packets.*0x1000 is used by/);
    const rules = await node.node.run('ip', ['rule']);
    assert.match(rules, /fwmark 0x40\/0x40 ipproto udp dport 10053/);
    assert.equal((await degradedOf(tandem, 'agent')).has('mark-taken'), false);
    await servesAlone(standard, 'agent');
    await restart(standard, 'proxy');
    await servesAlone(standard, 'proxy');
    const [program = '', ...args] = removal[form];
    await node.node.run(program, args);
    await restart(standard, 'agent');
    assert.equal(markOf(standard), 0x40, 'kept, though 0x1000 is free again');
  });
}

test('rules that come later are told, and after a restart of the agent both have another bit', async () => {
  await using standard = await startStandardNode();
  const { tandem, node } = standard;
  assert.equal(markOf(standard), 0x1000);
  await node.node.ip(['rule add pref 100 fwmark 0x1000/0x1000 lookup 100']);
  assert.match(await waitForDegraded(tandem, 'agent', 'mark-taken'), /ip rule pref 100 fwmark/);
  await node.node.ip(['rule del pref 100']);
  await waitForMended(tandem, 'agent', 'mark-taken');

  await foreignRules.iptables(node);
  const message = await waitFor(
    async () => (await degradedOf(tandem, 'agent')).get('mark-taken') ?? null,
    { what: 'the agent to tell', timeoutMs: toldMs },
  );
  assert.match(message, /other rules use bit 0x1000/);
  const told = await doctorOf(tandem);
  assert.match(told.checks.get('mark')?.why ?? '', /bit 0x1000 of the mark is in force/);
  assert.equal(
    told.checks.get('mark-firewall')?.status,
    'fail',
    told.checks.get('mark-firewall')?.why,
  );
  assert.equal(await answered(standard, 4), 4, 'as long as nothing clears it');
  await tandem.kill('agent');
  await restart(standard, 'agent');
  assert.equal(markOf(standard), 0x40);
  assert.equal((await degradedOf(tandem, 'agent')).has('mark-taken'), false);
  const mended = await doctorOf(tandem);
  assert.match(mended.checks.get('mark')?.why ?? '', /bit 0x40 of the mark is in force/);
  assert.equal(
    mended.checks.get('mark-firewall')?.status,
    'pass',
    mended.checks.get('mark-firewall')?.why,
  );
  // The same process as before: its listeners let the new bit in.
  await servesAlone(standard, 'proxy');
});

test('the bit that the option names is taken: the agent says how to mend it, and what enforces stays', async () => {
  await using fresh = await createNode({ pods: [] });
  await foreignRules.iptables(fresh);
  const bare = await TandemNode.create(fresh);
  await using refused = await bare.startBeside('agent', { flags: { mark: 0x1000 } });
  assert.equal((await refused.exited).status, exitCodes.nothingEnforced, refused.stderr());
  assert.match(
    refused.stderr(),
    /the option mark is 0x1000.*leave mark at auto or set it to 0x40, for both/,
  );

  await using standard = await startStandardNode();
  const { tandem, node, client } = standard;
  await tandem.kill('agent');
  await foreignRules.iptables(node);
  await using again = await tandem.startBeside('agent', { flags: { mark: 0x1000 } });
  assert.equal((await again.exited).status, exitCodes.startFailed, again.stderr());
  assert.match(again.stderr(), /go on enforcing policy revision \d+: the option mark is 0x1000/);
  assert.equal(await canConnect(client, denied), false);
  assert.equal(await answered(standard, 8), 8);
});

test('a process with other settings than the datapath says so and takes no query, until they agree', async () => {
  await using standard = await startStandardNode({ options: { mark: 0x1000 } });
  const { tandem } = standard;
  for (const [flags, difference] of [
    [{ port: 10_054 }, /serves no DNS.*port is 10054 here and 10053 in/],
    [{ mark: 0x40 }, /serves no DNS.*mark is 0x40 here and 0x1000 in/],
  ] as const) {
    await tandem.kill('proxy');
    await tandem.startProcess('proxy', { flags });
    assert.match(await waitForDegraded(tandem, 'proxy', 'settings-differ'), difference);
    await waitForDegraded(tandem, 'agent', 'proxy-away');
    assert.equal(await answered(standard, 12), 12);
  }
  await tandem.kill('proxy');
  await restart(standard, 'proxy');
  for (const flags of [{ port: 10_054 }, { mark: 0x40 }]) {
    await tandem.kill('agent');
    await tandem.startProcess('agent', { flags });
    await waitForDegraded(tandem, 'proxy', 'settings-differ');
    await tandem.waitForMembers(['agent']);
    assert.equal(await answered(standard, 12), 12, Object.keys(flags).join());
  }
  await tandem.kill('agent');
  await restart(standard, 'agent');
  await waitForMended(tandem, 'proxy', 'settings-differ');
  await servesAlone(standard, 'proxy');
});
