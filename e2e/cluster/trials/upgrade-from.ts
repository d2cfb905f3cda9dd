// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * `helm upgrade` from the chart and the images of another commit to those of this checkout, and `helm rollback`, while a pod asks
 * and keeps connections open, and while others send what policy denies: nothing is lost or broken, and nothing denied passes.
 */

import { Datapath } from '@tandem/datapath/datapath';
import { NodeGroup } from '@tandem/datapath/group';
import { waitFor } from '@tandem/testing/wait';
import { checkoutOf } from '../checkouts.ts';
import { defineClusterNetworkPolicy } from '../conformance-suites.ts';
import { applyObjects, tryKubectl } from '../kubectl.ts';
import { nodeIndexes, nodeName, worldApiAddress } from '../layout.ts';
import { importImage, nodeInitPid } from '../node.ts';
import { productTag, rollBackProduct, upgradeProduct } from '../product.ts';
import { Progress } from '../progress.ts';
import { judge, startGuarded } from './guarded.ts';
import { collectorPort } from './talkers.ts';
import { type Trial, trialNamespace } from './trial.ts';
import { startClient, underTraffic } from './upgrade-traffic.ts';

const formerTag = 'former';
const guardedPods = 4;
const policyName = 'trial-talkers';
const versionTimeoutMs = 30_000;

/** `talkerPolicy` as a ClusterNetworkPolicy: a version that knows the kind has more entries with it, and the same verdicts. */
const administrators = {
  apiVersion: 'policy.networking.k8s.io/v1beta1',
  kind: 'ClusterNetworkPolicy',
  metadata: { name: policyName },
  spec: {
    tier: 'Admin',
    priority: 10,
    subject: {
      pods: {
        namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': trialNamespace } },
        podSelector: { matchLabels: { app: 'talker' } },
      },
    },
    ingress: [{ action: 'Deny', from: [{ namespaces: {} }] }],
    egress: [
      {
        action: 'Accept',
        to: [{ networks: [`${worldApiAddress}/32`] }],
        protocols: [
          { udp: { destinationPort: { number: collectorPort } } },
          { tcp: { destinationPort: { number: 80 } } },
        ],
      },
      { action: 'Deny', to: [{ networks: ['0.0.0.0/0'] }] },
    ],
  },
};

/** `ref`: of the other commit. */
export async function upgradeFrom(trial: Trial, ref: string, rounds: number): Promise<void> {
  const { layout, config, steps } = trial;
  const former = await checkoutOf(ref, formerTag, new Progress());
  const short = former.commit.slice(0, 12);
  steps.title(`Tandem of ${short}`);
  let formerAbi = '';
  let thisAbi = '';
  await steps.step('it is installed by its own chart', async () => {
    for (const index of nodeIndexes(config)) {
      for (const file of Object.values(former.images)) await importImage(layout, index, file);
    }
    await defineClusterNetworkPolicy(layout);
    await upgradeProduct(layout, formerTag, { chart: former.chart });
    // The API server may refuse objects for a while after their definition came.
    await waitFor(() => isApplied(trial, administrators), {
      what: 'the API server to take the policy',
      timeoutMs: versionTimeoutMs,
    });
    formerAbi = await abiOf(trial);
    return `ABI version ${formerAbi}`;
  });
  if (steps.failed > 0) throw new Error('the former version is not there');
  await startGuarded(trial, guardedPods);
  const client = await startClient(trial);
  const step = async (what: string, work: () => Promise<void>): Promise<void> => {
    await steps.step(what, () => underTraffic(trial, client, work));
    await judge(trial);
  };
  for (let round = 1; round <= rounds; round++) {
    steps.title(`Round ${round} of ${rounds}`);
    await step('helm upgrade to this checkout', () => upgradeProduct(layout, productTag));
    await steps.step('its version is in force', async () => {
      thisAbi = await abiOf(trial);
      return `ABI version ${thisAbi}${thisAbi === formerAbi ? ', as before' : ''}`;
    });
    await step('helm rollback', () => rollBackProduct(layout));
    await steps.step('the former version is in force', async () => {
      await waitFor(async () => (await abiOf(trial)) === formerAbi, {
        what: `ABI version ${formerAbi}`,
        timeoutMs: versionTimeoutMs,
      });
      return `ABI version ${formerAbi}`;
    });
  }
  await tryKubectl(layout, ['delete', 'clusternetworkpolicy', policyName, '--ignore-not-found']);
}

async function isApplied({ layout }: Trial, object: object): Promise<boolean> {
  return applyObjects(layout, [object]).then(
    () => true,
    () => false,
  );
}

/** ABI version of the agent that loaded the programs in force, by node; one number if all are equal. */
async function abiOf({ layout, config }: Trial): Promise<string> {
  const versions = new Map<string, number>();
  for (const index of nodeIndexes(config)) {
    const pinRoot = `/proc/${await nodeInitPid(layout, index)}/root/sys/fs/bpf/tandem`;
    using datapath = Datapath.open(pinRoot);
    versions.set(nodeName(index), new NodeGroup(datapath.map('group').mmap()).agentAbi);
  }
  const distinct = new Set(versions.values());
  if (distinct.size === 1) return `${[...distinct][0]}`;
  return [...versions].map(([node, version]) => `${node} ${version}`).join(', ');
}
