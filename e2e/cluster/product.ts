// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Tandem on a cluster of the bed: the images of this checkout on each node, the chart installed by Helm. */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { imageArchive } from '@tandem/images/oci';
import {
  type ProductImage,
  productImages,
  productLayers,
  productVersion,
} from '@tandem/images/product-images';
import { type HelmProgram, helm, kubectl, tryKubectl } from './kubectl.ts';
import { type ClusterConfig, type Layout, nodeIndexes } from './layout.ts';
import { importImage } from './node.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** A machine short of CPU that replaces the pods of both DaemonSets on each node, one after the other, takes minutes. */
const rolloutSeconds = 600;
const helmWait = ['--wait', '--timeout', `${rolloutSeconds}s`];

export const release = 'tandem';
export const productNamespace = 'kube-system';
export const daemonSets = { agent: 'tandem-agent', dnsProxy: 'tandem-dns-proxy' } as const;
const ofProduct = 'app.kubernetes.io/part-of=tandem';
export type ProductPart = keyof typeof daemonSets;
export const productTag: string = productVersion(root);
export const imageName = (image: ProductImage, tag: string): string =>
  `localhost/tandem/${image}:${tag}`;

/**
 * The checkout must be built. Imported again they replace what was there: pods of others are started again, for Helm sees no change
 * in a tag that stays.
 */
export async function importProductImages(layout: Layout, config: ClusterConfig): Promise<void> {
  const directory = join(layout.directory, 'images');
  mkdirSync(directory, { recursive: true });
  const images = productImages(await productLayers(root), productTag);
  let isOther = false;
  for (const [name, image] of Object.entries(images)) {
    const file = join(directory, `${name}.tar`);
    const archive = imageArchive(image);
    isOther ||= existsSync(file) && !readFileSync(file).equals(archive);
    writeFileSync(file, archive);
    await Promise.all(nodeIndexes(config).map((index) => importImage(layout, index, file)));
  }
  if (!isOther) return;
  const pods = ['daemonset', 'deployment'].map((kind) =>
    tryKubectl(layout, ['-n', productNamespace, 'rollout', 'restart', kind, '-l', ofProduct]),
  );
  await Promise.all(pods);
}

/** Waits until it is ready on each node. `values`: others than the chart's, each `KEY=VALUE`. */
export async function installProduct(
  layout: Layout,
  values: readonly string[] = [],
): Promise<void> {
  await upgradeProduct(layout, productTag, { values });
}

/** To images of this tag, which the nodes must have; installs where nothing is. */
export async function upgradeProduct(
  layout: Layout,
  tag: string,
  options: {
    readonly values?: readonly string[];
    readonly waits?: boolean;
    readonly program?: HelmProgram;
    /** Directory of the chart; default: of this checkout. */
    readonly chart?: string;
  } = {},
): Promise<void> {
  const { values = [], waits = true, program = 'helm' } = options;
  const { chart = join(root, 'charts/tandem') } = options;
  const set = ['image.pullPolicy=Never', `image.tag=${tag}`, ...values].flatMap((value) => [
    '--set',
    value,
  ]);
  const target = [release, chart, '--namespace', productNamespace];
  const wait = waits ? helmWait : [];
  await helm(layout, ['upgrade', '--install', ...target, ...wait, ...set], program);
  if (waits) await rolledOut(layout);
}

/** To the revision before the present one. */
export async function rollBackProduct(layout: Layout): Promise<void> {
  await helm(layout, ['rollback', release, '--namespace', productNamespace, ...helmWait]);
  await rolledOut(layout);
}

async function rolledOut(layout: Layout): Promise<void> {
  for (const name of Object.values(daemonSets)) await rollout(layout, productNamespace, name);
}

/** Nothing of it is left on any node afterwards, as the notes of the chart say. It must be installed. */
export async function removeProduct(layout: Layout): Promise<void> {
  await installProduct(layout, ['cleanup.onUninstall=true']);
  await uninstallProduct(layout);
}

/** Gives what Helm wrote. `program`: of which Helm. @throws Error with it when Helm fails */
export async function uninstallProduct(
  layout: Layout,
  program: HelmProgram = 'helm',
): Promise<string> {
  return helm(layout, ['uninstall', release, '--namespace', productNamespace], program);
}

/** `helm test`. @throws Error with what the pod of the test wrote that failed: it stays, for that */
export async function testProduct(layout: Layout): Promise<void> {
  try {
    await helm(layout, ['test', release, '--namespace', productNamespace]);
  } catch (error) {
    const logs = ['policy', 'privileges'].map((each) =>
      tryKubectl(layout, ['-n', productNamespace, 'logs', `${release}-test-${each}`]),
    );
    const texts = (await Promise.all(logs)).map(({ stdout }) => stdout.trim());
    throw new Error(texts.join(' ').replaceAll('\n', ', '), { cause: error });
  }
}

/** Waits until each node has a ready pod of the DaemonSet's present template. */
export async function rollout(layout: Layout, namespace: string, name: string): Promise<void> {
  const target = ['rollout', 'status', `daemonset/${name}`, `--timeout=${rolloutSeconds}s`];
  await kubectl(layout, ['-n', namespace, ...target], { timeoutMs: (rolloutSeconds + 10) * 1000 });
}
