// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// What this kernel can do for this process, found by trying, never by its version: versions lie in
// both directions (backports, build options, missing capabilities). Probes leave nothing behind.

import { BpfError } from './errors.ts';
import { native } from './native.ts';

/** In the order of `tandem doctor`. */
export const features = [
  'btf',
  'ringbuf',
  'array_mmap',
  'lpm_trie_batch',
  'reuseport_sockarray',
  'sk_reuseport',
  'syscall_program',
  'tcx_link',
  'netfilter_link',
  'netfilter_defrag',
  'devmap_lookup',
  'kernel_functions',
  'cgroup_bind',
] as const;
export type FeatureName = (typeof features)[number];

export interface Feature {
  readonly name: FeatureName;
  readonly supported: boolean;
  /** Why not, for an operator: what to enable and what the kernel said. */
  readonly reason?: string;
}

const needs: Readonly<Record<FeatureName, string>> = {
  btf: 'CONFIG_DEBUG_INFO_BTF and a readable /sys/kernel/btf/vmlinux',
  ringbuf: 'kernel 5.8',
  array_mmap: 'kernel 5.5',
  lpm_trie_batch: 'kernel 5.16',
  reuseport_sockarray: 'kernel 4.19',
  sk_reuseport: 'kernel 4.19',
  syscall_program: 'kernel 5.14',
  tcx_link: 'kernel 6.6 with CONFIG_NET_XGRESS',
  netfilter_link: 'kernel 6.4 with CONFIG_NETFILTER_BPF_LINK',
  netfilter_defrag: 'kernel 6.6 with CONFIG_NETFILTER_BPF_LINK',
  devmap_lookup: 'kernel 5.4, whose programs may look up DEVMAP_HASH maps',
  kernel_functions:
    'kernel 6.4 with bpf_dynptr_from_skb, bpf_dynptr_slice, bpf_rdonly_cast and bpf_rcu_read_lock',
  cgroup_bind: 'kernel 5.7 with CONFIG_CGROUP_BPF',
};

export function probeFeature(name: FeatureName): Feature {
  const index = native.featureNames().indexOf(name);
  try {
    native.featureProbe(index);
    return { name, supported: true };
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    const reason =
      error.code === 'TANDEM_BPF_PERMISSION'
        ? `not permitted (${error.errnoName}): needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and a seccomp profile that allows bpf(2)`
        : `needs ${needs[name]}; the kernel said ${error.errnoName}`;
    return { name, supported: false, reason };
  }
}

/** Without them Tandem runs with less. */
export const optionalFeatures: ReadonlySet<FeatureName> = new Set([
  'lpm_trie_batch',
  'netfilter_defrag',
  'cgroup_bind',
]);

/** Features that Tandem needs, and that this kernel lacks or this process may not use. */
export function missingFeatures(): readonly Feature[] {
  return probeFeatures().filter(({ name, supported }) => !supported && !optionalFeatures.has(name));
}

export function probeFeatures(): readonly Feature[] {
  return features.map((name) => probeFeature(name));
}
