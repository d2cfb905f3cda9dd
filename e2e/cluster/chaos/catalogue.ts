// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Faults of a cluster. What may fail under each is said here, before it is done. */

import type { MemberStatus } from '@tandem/datapath/group';
import { waitFor } from '@tandem/testing/wait';
import { waitForEqualCaches } from '../../kit/admin.ts';
import { startControlPlaneProgram, waitForApiServer } from '../control-plane.ts';
import { kubectl } from '../kubectl.ts';
import { nodeName } from '../layout.ts';
import { nodeInitPid, powerOffNode, startNode } from '../node.ts';
import { daemonPid, killDaemon } from '../processes.ts';
import { daemonSets, productNamespace } from '../product.ts';
import { agentsAreBack, agentsCannotStart, processOf } from '../trials/agents.ts';
import type { ClusterFault, FaultContext } from './fault.ts';
import type { ClusterStage } from './stage.ts';
import {
  cachePodOf,
  corednsPod,
  type DnsPod,
  resumePod,
  signalPod,
  signalProgram,
  untilResolved,
  withApiCut,
  withLinkDown,
  withPodCut,
} from './targets.ts';

const nothing = 'nothing may fail';
const names = 'allowed names may fail until programs of the node have answers again';
const apiServer = 'kube-apiserver';
const liveTimeoutMs = 120_000;
const cachesTimeoutMs = 60_000;
/** A member beats every 20 ms. */
const freshBeatMs = 50;
const members = [
  ['agent', daemonSets.agent],
  ['dns-proxy', daemonSets.dnsProxy],
] as const;

const memberFaults: readonly ClusterFault[] = members.flatMap(([program, daemonSet]) => [
  {
    ...{ name: `${program} SIGKILL`, subject: 'member', isOfNode: true },
    what: `kubelet starts it again; ${nothing}`,
    inject: ({ stage, node }) => signalProgram(stage, node, program, 'SIGKILL'),
  },
  {
    ...{ name: `${program} SIGSTOP`, subject: 'member', isOfNode: true, seconds: [1, 10] },
    what: `it hangs, then goes on; ${nothing}`,
    inject: async ({ stage, node, hold }) => {
      await signalProgram(stage, node, program, 'SIGSTOP');
      try {
        await hold();
      } finally {
        // One that its probe has ended meanwhile is another one by now.
        await signalProgram(stage, node, program, 'SIGCONT').catch(() => undefined);
      }
    },
  },
  {
    ...{ name: `${program} deleted`, subject: 'member', isOfNode: true, isAlone: true },
    what: `its pod is deleted, another one takes its place; ${nothing}`,
    inject: async ({ stage, node }) => {
      const where = [
        '-l',
        `app.kubernetes.io/name=${daemonSet}`,
        `--field-selector=spec.nodeName=${nodeName(node)}`,
      ];
      const pods = ['-n', productNamespace, 'delete', 'pods', ...where, '--wait=false'];
      await kubectl(stage.layout, pods);
    },
  },
]);

const bothFaults: readonly ClusterFault[] = [
  {
    ...{ name: 'both SIGKILL', subject: 'member', isOfNode: true },
    what: 'queries of the node may stay unanswered until a member serves again',
    inject: ({ stage, node, excuse }) =>
      excuse('silence', [node], async () => {
        const killed = new Set((await stage.members(node)).map(({ epochNs }) => epochNs));
        for (const [program] of members) await signalProgram(stage, node, program, 'SIGKILL');
        await untilServing(stage, node, killed);
      }),
  },
  {
    ...{ name: 'both SIGSTOP', subject: 'member', isOfNode: true, seconds: [1, 8] },
    what: 'queries of the node may stay unanswered until a member goes on',
    inject: ({ stage, node, hold, excuse }) =>
      excuse('silence', [node], async () => {
        try {
          for (const [program] of members) await signalProgram(stage, node, program, 'SIGSTOP');
          await hold();
        } finally {
          for (const [program] of members) {
            await signalProgram(stage, node, program, 'SIGCONT').catch(() => undefined);
          }
        }
        await untilServing(stage, node, new Set());
      }),
  },
];

/** The demonstration of this product, for long and under load. */
const noAgents: ClusterFault = {
  ...{ name: 'no agent can start', subject: 'member', isOfNode: false, seconds: [300, 300] },
  ...{ isAlone: true, isOnlyByName: true, rate: 200 },
  what: `all agents are deleted, and their image is nowhere; ${nothing}, and both processes know the same names afterwards`,
  inject: async ({ stage, mark, hold }) => {
    await agentsCannotStart(stage.trial);
    const running = async (): Promise<readonly string[]> => {
      const found: string[] = [];
      for (const node of stage.nodes) {
        if ((await processOf(stage.trial, node, 'agent')) !== null) found.push(nodeName(node));
      }
      return found;
    };
    let nodes: readonly string[] = [];
    try {
      await waitFor(async () => (await running()).length === 0, {
        what: 'every agent to be down',
        timeoutMs: liveTimeoutMs,
      });
      mark('no agent runs');
      await hold();
      nodes = await running();
    } finally {
      await agentsAreBack(stage.trial);
    }
    if (nodes.length > 0) throw new Error(`an agent ran on ${nodes.join(' and ')}`);
  },
  after: async (stage) => {
    for (const node of stage.nodes) {
      const runDirectory = `/proc/${await nodeInitPid(stage.layout, node)}/root/run/tandem`;
      await waitForEqualCaches({ runDirectory }, cachesTimeoutMs);
    }
  },
};

const nodeFaults: readonly ClusterFault[] = [
  {
    ...{ name: 'node power cut', subject: 'node', isOfNode: true, seconds: [1, 8], isAlone: true },
    what: `it starts again with its disk; its own pods end, if CoreDNS is one of them elsewhere ${names}, else nothing may fail there`,
    inject: async (context) => {
      const { stage, node, hold } = context;
      const others = stage.nodes.filter((index) => index !== node);
      const cycle = async (): Promise<void> => {
        context.losesPower();
        await powerOffNode(stage.layout, node);
        context.mark('off');
        try {
          await hold();
        } finally {
          await startNode(stage.layout, stage.trial.config, node);
        }
        context.mark('on');
      };
      if ((await corednsPod(stage)).node === node) await resolverAway(context, others, cycle);
      else await cycle();
    },
  },
  {
    ...{ name: 'node cut off', subject: 'node', isOfNode: true, seconds: [2, 12] },
    what: `its link is down; its allowed names and connections may fail, and if CoreDNS is on it elsewhere ${names}`,
    inject: async (context) => {
      const { stage, node, hold } = context;
      const others = stage.nodes.filter((index) => index !== node);
      const cut = (): Promise<void> =>
        context.excuse('cut', [node], () =>
          withLinkDown(stage, node, async () => {
            await hold();
          }).then(() => untilResolved(stage, [node])),
        );
      // A node that was ready is where its object says.
      if ((await corednsPod(stage)).node === node) await resolverAway(context, others, cut);
      else await cut();
    },
  },
];

const apiFaults: readonly ClusterFault[] = [
  {
    ...{ name: 'API server SIGKILL', subject: 'API server', isOfNode: false, seconds: [2, 15] },
    what: `it is started again after a while; ${nothing}`,
    inject: async ({ stage: { layout, trial }, hold }) => {
      await killDaemon(layout, apiServer);
      try {
        await hold();
      } finally {
        startControlPlaneProgram(layout, trial.config, apiServer);
      }
      await waitForApiServer(layout);
    },
  },
  {
    ...{ name: 'API server SIGSTOP', subject: 'API server', isOfNode: false, seconds: [2, 15] },
    what: `it hangs, then goes on; ${nothing}`,
    inject: async ({ stage: { layout }, hold }) => {
      const pid = daemonPid(layout, apiServer);
      if (pid === null) throw new Error('the API server does not run');
      process.kill(pid, 'SIGSTOP');
      try {
        await hold();
      } finally {
        process.kill(pid, 'SIGCONT');
      }
    },
  },
  {
    ...{ name: 'API server cut off', subject: 'API server', isOfNode: false, seconds: [2, 15] },
    what: `packets of nodes to it are lost, connections look alive; ${nothing}`,
    inject: ({ stage, hold }) => withApiCut(stage, hold),
  },
];

const dnsFaults: readonly ClusterFault[] = [
  dnsFault('SIGKILL', 'its process is killed', async ({ stage }, pod) =>
    signalPod(stage, pod, 'SIGKILL'),
  ),
  dnsFault(
    'SIGSTOP',
    'it hangs, then goes on',
    async ({ stage, hold }, pod) => {
      signalPod(stage, pod, 'SIGSTOP');
      try {
        await hold();
      } finally {
        resumePod(stage, pod);
      }
    },
    [2, 10],
  ),
  dnsFault(
    'cut off',
    'nothing comes to its pod or leaves it',
    ({ stage, hold }, pod) => withPodCut(stage, pod, hold),
    [2, 10],
  ),
].flat();

/** The same, done to CoreDNS and to a node's cache. */
function dnsFault(
  name: string,
  what: string,
  inject: (context: FaultContext, pod: DnsPod) => Promise<void>,
  seconds?: readonly [number, number],
): readonly ClusterFault[] {
  const lasts = seconds === undefined ? {} : { seconds };
  return [
    {
      ...{ name: `CoreDNS ${name}`, subject: 'CoreDNS', isOfNode: false, isAlone: true, ...lasts },
      ...{ what: `${what}; ${names}`, mayBeLate: true },
      inject: async (context) => {
        const pod = await corednsPod(context.stage);
        await resolverAway(context, context.stage.nodes, () => inject(context, pod));
      },
    },
    {
      ...{ name: `cache ${name}`, subject: 'cache', isOfNode: true, isAlone: true, ...lasts },
      ...{ what: `${what}; ${nothing}: names are asked past it`, mayBeLate: true },
      inject: async (context) => {
        await inject(context, await cachePodOf(context.stage, context.node));
      },
    },
  ];
}

const kubeletFaults: readonly ClusterFault[] = [
  {
    ...{ name: 'kubelet SIGKILL', subject: 'kubelet', isOfNode: true },
    what: `the node starts it again; ${nothing}`,
    inject: ({ stage, node }) => signalProgram(stage, node, 'kubelet', 'SIGKILL'),
  },
  {
    ...{ name: 'kubelet SIGSTOP', subject: 'kubelet', isOfNode: true, seconds: [2, 12] },
    what: `it hangs, then goes on; ${nothing}`,
    inject: async ({ stage, node, hold }) => {
      await signalProgram(stage, node, 'kubelet', 'SIGSTOP');
      try {
        await hold();
      } finally {
        await signalProgram(stage, node, 'kubelet', 'SIGCONT');
      }
    },
  },
];

export const clusterFaults: readonly ClusterFault[] = [
  ...memberFaults,
  ...bothFaults,
  noAgents,
  ...nodeFaults,
  ...apiFaults,
  ...dnsFaults,
  ...kubeletFaults,
];

/** From the fault until programs of each of these nodes have answers again. */
function resolverAway(
  { stage, excuse }: FaultContext,
  nodes: readonly number[],
  fault: () => Promise<void>,
): Promise<void> {
  return excuse('resolver', nodes, async () => {
    await fault();
    await untilResolved(stage, nodes);
  });
}

/** `killed`: epochs of members that do not count: their last heartbeat is fresh for a while after their end. */
async function untilServing(
  stage: ClusterStage,
  node: number,
  killed: ReadonlySet<number>,
): Promise<void> {
  await waitFor(async () => isServed(await stage.members(node), killed), {
    what: `a member of ${nodeName(node)} to serve`,
    timeoutMs: liveTimeoutMs,
  });
}

/** Whether one of these members serves, and is none of the `killed` epochs. */
export function isServed(group: readonly MemberStatus[], killed: ReadonlySet<number>): boolean {
  return group.some(
    ({ isServing, revision, beatAgeMs, epochNs }) =>
      isServing && revision > 0 && beatAgeMs < freshBeatMs && !killed.has(epochNs),
  );
}
