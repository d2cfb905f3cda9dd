// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** State of a node that Tandem changes or might change, as text that can be compared with a later one. */

import { run } from '@tandem/testing/process';
import type { Layout } from '../layout.ts';
import { inNode } from '../node.ts';

/** By part of the node. */
export type NodeFootprint = Readonly<Record<string, string>>;

/** Counters differ, and what pods and Services come and go with: only what others keep is compared as a whole. */
const commands: Readonly<Record<string, string>> = {
  bpffs: "find /sys/fs/bpf -printf '%P %M %U %G\\n' | sort",
  nft: 'nft list tables | sort',
  rules: 'ip rule; ip -6 rule',
  routes:
    'ip route show table all type local default; ip -6 route show table all type local default',
  neighbours: 'ip neigh show nud permanent; bridge fdb show | grep -w sticky || true',
  links: "ip -o link | grep -v veth | sed 's/^[0-9]*: //; s/@if[0-9]*:/:/; s/ qdisc .*//' | sort",
  sysctl:
    "sysctl -a --pattern '^net[.](ipv[46][.]conf[.](all|default)|bridge|netfilter[.]nf_conntrack_(max|acct|checksum))' 2>/dev/null | sort",
  cni: 'find /etc/cni/net.d /opt/cni/bin -type f -exec sha256sum {} + | sort -k 2',
  files: 'find /run/tandem /var/lib/tandem -mindepth 1 2>/dev/null | sort || true',
};

export async function nodeFootprint(layout: Layout, index: number): Promise<NodeFootprint> {
  const found: Record<string, string> = {};
  for (const [part, command] of Object.entries(commands)) {
    const { stdout } = await run(...(await inNode(layout, index, ['sh', '-c', command])));
    found[part] = stdout.trim();
  }
  return found;
}

/** Lines that only one of them has, by part. */
export function differences(before: NodeFootprint, after: NodeFootprint): readonly string[] {
  return Object.keys(before).flatMap((part) => {
    const [old, now] = [before, after].map((each) => (each[part] ?? '').split('\n'));
    const gone = old?.filter((line) => !now?.includes(line)).map((line) => `-${line}`) ?? [];
    const come = now?.filter((line) => !old?.includes(line)).map((line) => `+${line}`) ?? [];
    const lines = [...gone, ...come];
    return lines.length === 0 ? [] : [`${part}: ${lines.join(' ')}`];
  });
}
