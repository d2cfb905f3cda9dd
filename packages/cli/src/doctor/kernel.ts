// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Features of the kernel, found by trying. */

import { release } from 'node:os';
import { type FeatureName, probeFeatures } from '@tandem/bpf-loader-node/feature';
import { type Check, fail, info, pass, warn } from './check.ts';

/** Optional features, with the loss without each. */
const optional: Readonly<Partial<Record<FeatureName, string>>> = {
  lpm_trie_batch: 'large policies are written entry by entry',
  netfilter_defrag: 'fragments are not reassembled by our own programs',
  cgroup_bind: "other processes are not kept off Tandem's port",
};

type Dashed<Name extends string> = Name extends `${infer First}_${infer Rest}`
  ? `${First}-${Dashed<Rest>}`
  : Name;
const dashed = <Name extends string>(name: Name): Dashed<Name> =>
  name.replaceAll('_', '-') as Dashed<Name>;

export const checkKernel: Check = () => [
  info('kernel', `Linux ${release()}`),
  ...probeFeatures().map(({ name, supported, reason = '' }) => {
    const check = `kernel-${dashed(name)}` as const;
    if (supported) return pass(check, 'tried, it works');
    const isPermission = reason.startsWith('not permitted');
    const fix = isPermission
      ? 'run tandem doctor as root, outside of a container that forbids bpf(2)'
      : 'boot a kernel of 6.6 or newer with the option that is named';
    const loss = optional[name];
    return loss === undefined ? fail(check, reason, fix) : warn(check, `${reason}: ${loss}`, fix);
  }),
];
