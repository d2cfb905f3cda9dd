// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * `helm upgrade` of both DaemonSets at once, there and back, while a pod asks and keeps connections open: nothing is lost, late or
 * broken. Then the ways in which an upgrade goes wrong: an image that never becomes ready, one that comes late, an old process that
 * hangs just then, one that stands by and is killed, a node that loses its power, a CoreDNS that is rolled out as well, and an image
 * that comes late where the old pod ends first.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { run, tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { kubectl, tryKubectl } from '../kubectl.ts';
import { nodeIndexes, nodeName } from '../layout.ts';
import { inNode, powerOffNode, startNode, tagImage } from '../node.ts';
import {
  daemonSets,
  imageName,
  installProduct,
  type ProductPart,
  productNamespace,
  productTag,
  rollout,
  upgradeProduct,
} from '../product.ts';
import type { Trial } from './trial.ts';
import { nodeOfDns, startClient, underTraffic } from './upgrade-traffic.ts';

const nextTag = 'next';
const brokenTag = 'never-ready';
const lateTag = 'late';
const lateWithoutSurgeTag = 'late-without-surge';
const lateMs = 90_000;
const quietMs = 20_000;
/** For which a node has no power. */
const powerlessMs = 10_000;
/** For which the old pods must serve on beside one that does not become ready. */
const brokenMs = 20_000;
const podTimeoutMs = 60_000;
const standbyTimeoutMs = 60_000;
/** Time until the fence ends a hung process: three seconds without heartbeat, and some for a busy machine. */
const fencedMsMax = 10_000;
/** A rollout that takes longer is one that Kubernetes forgot. */
const forgottenTimeout = '--timeout=60s';
const pauseImage = /registry\.k8s\.io\/pause:\S+/;

export async function upgrade(trial: Trial, rounds: number): Promise<void> {
  const { layout, config, steps } = trial;
  await tag(trial, nextTag);
  const client = await startClient(trial);
  const step = (what: string, work: (note: (text: string) => void) => Promise<void>) =>
    steps.step(what, async () => {
      const notes: string[] = [];
      const droppedBefore = await dropped(trial);
      const seen = await underTraffic(trial, client, () => work((text) => notes.push(text)));
      const drops = (await dropped(trial)) - droppedBefore;
      if (drops > 0) throw new Error(`${drops} packets dropped; ${seen}`);
      return [...notes, seen].join('; ');
    });
  const to = async (name: string): Promise<void> => upgradeProduct(layout, name);

  steps.title('Before it');
  await step(`nothing is done for ${quietMs / 1000} s`, () => delay(quietMs));

  steps.title(`Both DaemonSets upgraded at once, there and back, ${rounds} times`);
  for (let round = 1; round <= rounds; round++) {
    await step(`${round}: to the next version`, () => to(nextTag));
    await step(`${round}: and back`, () => to(productTag));
  }

  steps.title('Upgrades that go wrong');
  await tagPause(trial);
  await step('an image that never becomes ready takes nothing away', async (note) => {
    const before = await podsOf(trial);
    await upgradeProduct(layout, brokenTag, { waits: false });
    // of each DaemonSet one more pod than nodes (maxSurge), so on one of the nodes
    await waitForPods(trial, (pods) =>
      Object.values(daemonSets).every((name) => pods.some(({ ds, isNew }) => ds === name && isNew)),
    );
    await delay(brokenMs);
    const after = await podsOf(trial);
    const missing = before.filter(
      ({ name }) => !after.some((each) => each.name === name && each.isReady),
    );
    if (missing.length > 0) throw new Error(`gone: ${missing.map(({ name }) => name).join(', ')}`);
    note(`${before.length} old pods served on beside ${after.length - before.length} new ones`);
  });
  await step('and is taken back', () => to(productTag));
  await step(`an image that comes after ${lateMs / 1000} s is waited for`, async () => {
    await upgradeProduct(layout, lateTag, { waits: false });
    await delay(lateMs);
    await tag(trial, lateTag);
    for (const name of Object.values(daemonSets)) await rollout(layout, productNamespace, name);
  });
  for (const [part, program] of [
    ['agent', 'agent'],
    ['dnsProxy', 'dns-proxy'],
  ] as const satisfies readonly (readonly [ProductPart, string])[]) {
    const tagAfter = part === 'agent' ? productTag : nextTag;
    await step(`an old ${program} that hangs is ended by the one that stands by`, async (note) => {
      const [index = 1] = nodeIndexes(config);
      const node = nodeName(index);
      const old = await processOf(trial, index, program);
      await upgradeProduct(layout, tagAfter, { waits: false });
      // nodes come one after the other (maxSurge): the one whose process is to hang may be the last
      await waitForPods(trial, (pods) =>
        pods.some((pod) => pod.ds === daemonSets[part] && pod.isNew && pod.node === node),
      );
      const stop = await inNode(layout, index, ['kill', '-STOP', `${old}`]);
      await run(...stop);
      const stoppedMs = performance.now();
      const isGone = async (): Promise<boolean> =>
        (await tryRun(...(await inNode(layout, index, ['kill', '-0', `${old}`])))).status !== 0;
      try {
        await waitFor(isGone, { what: `the ${program} that hangs to end`, timeoutMs: fencedMsMax });
        note(`after ${((performance.now() - stoppedMs) / 1000).toFixed(1)} s`);
      } finally {
        await rolledOut(trial, note);
      }
    });
  }
  for (const [part, program] of [
    ['agent', 'agent'],
    ['dnsProxy', 'dns-proxy'],
  ] as const satisfies readonly (readonly [ProductPart, string])[]) {
    await step(`a new ${program} that stands by is killed: the upgrade goes on`, async (note) => {
      const [index = 1] = nodeIndexes(config);
      const old = await processOf(trial, index, program);
      await upgradeProduct(layout, part === 'agent' ? productTag : nextTag, { waits: false });
      const standby = await waitFor(
        async () => {
          const newest = await processOf(trial, index, program, '--newest');
          return newest === old ? null : newest;
        },
        { what: `a second ${program}`, timeoutMs: standbyTimeoutMs },
      );
      await run(...(await inNode(layout, index, ['kill', '-KILL', `${standby}`])));
      await rolledOut(trial, note);
    });
  }
  const dnsNode = await nodeOfDns(trial);
  const [other] = nodeIndexes(config).filter((index) => nodeName(index) !== dnsNode);
  if (other !== undefined) {
    await step('another node loses its power meanwhile', async (note) => {
      await upgradeProduct(layout, productTag, { waits: false });
      await waitForPods(trial, (pods) => pods.some(({ isNew }) => isNew));
      await powerOffNode(layout, other);
      await delay(powerlessMs);
      await startNode(layout, config, other);
      await rolledOut(trial, note);
    });
  }
  await step('CoreDNS is rolled out at the same time', async (note) => {
    const dns = ['-n', 'kube-system', 'rollout'];
    await kubectl(layout, [...dns, 'restart', 'deployment/coredns']);
    await upgradeProduct(layout, other === undefined ? productTag : nextTag, { waits: false });
    await kubectl(layout, [...dns, 'status', 'deployment/coredns', '--timeout=120s']);
    await rolledOut(trial, note);
  });

  steps.title('Without surge: the old pod ends first');
  const values = [
    ...['updateStrategy.maxSurge=0', 'updateStrategy.maxUnavailable=1'],
    `drainSeconds=${(2 * lateMs) / 1000}`,
  ];
  await step('pods that wait longer than an image takes', () =>
    upgradeProduct(layout, productTag, { values }),
  );
  await step(`an image that comes after ${lateMs / 1000} s: no node is without both`, async () => {
    await upgradeProduct(layout, lateWithoutSurgeTag, { values, waits: false });
    await delay(lateMs);
    await tag(trial, lateWithoutSurgeTag);
    for (const name of Object.values(daemonSets)) await rollout(layout, productNamespace, name);
  });
  await installProduct(layout);
}

/**
 * Waits until both DaemonSets are rolled out. Kubernetes ends an old pod when the new one has been ready for
 * `minReadySeconds`, and looks at that when a pod changes and once more a second later than that. Of two pods that become
 * ready within that time it looks for the first alone; then the old pod of the second stays until a pod changes.
 */
async function rolledOut({ layout }: Trial, note: (text: string) => void): Promise<void> {
  for (const name of Object.values(daemonSets)) {
    const target = ['rollout', 'status', `daemonset/${name}`, forgottenTimeout];
    const { status } = await tryKubectl(layout, ['-n', productNamespace, ...target]);
    if (status !== 0) {
      note(`Kubernetes forgot an old pod of ${name} until a pod was changed`);
      const pods = ['annotate', 'pods', '-l', `app.kubernetes.io/name=${name}`, '--overwrite'];
      await kubectl(layout, ['-n', productNamespace, ...pods, `tandem.dev/trial=${Date.now()}`]);
    }
    await rollout(layout, productNamespace, name);
  }
}

/** The images of this checkout under another tag. */
async function tag({ layout, config }: Trial, name: string): Promise<void> {
  for (const index of nodeIndexes(config)) {
    for (const image of ['agent', 'dns-proxy'] as const) {
      await tagImage(layout, index, imageName(image, productTag), imageName(image, name));
    }
  }
}

/** An image that starts and answers no probe. */
async function tagPause({ layout, config }: Trial): Promise<void> {
  for (const index of nodeIndexes(config)) {
    const list = await inNode(layout, index, ['ctr', '-n', 'k8s.io', 'images', 'list', '-q']);
    const pause = pauseImage.exec((await run(...list)).stdout)?.[0];
    if (pause === undefined) throw new Error('the node has no pause image');
    for (const image of ['agent', 'dns-proxy'] as const) {
      await tagImage(layout, index, pause, imageName(image, brokenTag));
    }
  }
}

interface Pod {
  readonly ds: string;
  readonly name: string;
  readonly node: string;
  readonly isReady: boolean;
  /** Beside an older one of its DaemonSet. */
  readonly isNew: boolean;
}

const podTemplate =
  '{range .items[*]}{.metadata.ownerReferences[0].name} {.metadata.name} {.spec.nodeName} {.metadata.creationTimestamp} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}';

async function podsOf({ layout }: Trial): Promise<readonly Pod[]> {
  const selector = 'app.kubernetes.io/part-of=tandem';
  const command = ['-n', productNamespace, 'get', 'pods', '-l', selector];
  const text = await kubectl(layout, [...command, '-o', `jsonpath=${podTemplate}`]);
  const pods = text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split(' '))
    .map(([ds = '', name = '', node = '', created = '', ready = '']) => ({
      ...{ ds, name, node, created, isReady: ready === 'True' },
    }));
  return pods.map(({ ds, name, node, created, isReady }) => ({
    ...{ ds, name, node, isReady },
    isNew: pods.some((each) => each.ds === ds && each.node === node && each.created < created),
  }));
}

async function waitForPods(trial: Trial, test: (pods: readonly Pod[]) => boolean): Promise<void> {
  await waitFor(async () => test(await podsOf(trial)), {
    what: 'new pods beside the old ones',
    timeoutMs: podTimeoutMs,
  });
}

/** Packets that the first node dropped, by no policy of the traffic: there should be none. */
/**
 * Packets that were dropped, but for those of pods in the making: the kernel of each new pod, as of the controller, which an upgrade
 * replaces, solicits routers before the gate has its interface. The client's own would show as lookups and exchanges too.
 */
async function dropped(trial: Trial): Promise<number> {
  const [index = 1] = nodeIndexes(trial.config);
  const metrics = ['busybox', 'wget', '-qO-', 'http://127.0.0.1:9964/metrics'];
  const { stdout } = await run(...(await inNode(trial.layout, index, metrics)));
  const series = /^tandem_datapath_dropped_packets_total\{.*reason="(\w+)".*\} (\S+)$/gm;
  return [...stdout.matchAll(series)].reduce(
    (total, [, reason, value]) => total + (reason === 'unknown_pod' ? 0 : Number(value)),
    0,
  );
}

/** As the node numbers it. */
async function processOf(
  { layout }: Trial,
  index: number,
  program: string,
  which: '--oldest' | '--newest' = '--oldest',
): Promise<number> {
  const search = ['pgrep', which, '--full', `^/bin/node .*/dist/${program}\\.js`];
  return Number((await run(...(await inNode(layout, index, search)))).stdout.trim());
}
