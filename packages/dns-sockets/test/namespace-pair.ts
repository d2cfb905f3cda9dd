// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A node and a pod as two network namespaces joined by a veth, with the part of the datapath that
 * the sockets need: packets to port P get the redirect mark (an nftables rule stands in for
 * `from_pod`), a rule by mark delivers them locally, whatever their destination.
 *
 *   pod 10.7.1.2, fd07::2  ——veth——  node 10.7.1.1, fd07::1
 *
 * Not marked, to test the guard: packets to the node's own addresses.
 */

import { spawnSync } from 'node:child_process';

export const portP = 15_353;
export const redirectMark = 0x1000;
export const socketMark = 0x2000;
export const markMask = 0x3000;
export const nodeAddress = { 4: '10.7.1.1', 6: 'fd07::1' } as const;
export const podAddress = { 4: '10.7.1.2', 6: 'fd07::2' } as const;
/** Addresses that exist nowhere: as ClusterIPs do. */
export const serviceAddress = { 4: '10.96.0.10', 6: 'fd96::a' } as const;

const prefix = 'tds';

function run(command: string, args: readonly string[], input?: string): string {
  const result = spawnSync(command, args, { encoding: 'utf8', input, timeout: 20_000 });
  if (result.status !== 0) {
    throw new Error(`${command} ${args.join(' ')}: ${result.stderr || result.error?.message}`);
  }
  return result.stdout;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function removeLeftovers(): void {
  for (const line of run('ip', ['netns', 'list']).split('\n')) {
    const match = /^tds(\d+)[np]\b/.exec(line);
    if (match !== null && !isAlive(Number(match[1]))) {
      run('ip', ['netns', 'delete', match[0]]);
    }
  }
}

export class NamespacePair implements Disposable {
  readonly node: string = `${prefix}${process.pid}n`;
  readonly pod: string = `${prefix}${process.pid}p`;

  constructor() {
    removeLeftovers();
    run('ip', ['netns', 'add', this.node]);
    run('ip', ['netns', 'add', this.pod]);
    try {
      this.#addLinks();
      this.#applyRules();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  #addLinks(): void {
    const veth = 'link add veth0 type veth peer name eth0 netns';
    run('ip', ['-n', this.node, ...`${veth} ${this.pod}`.split(' ')]);
    const batch = (namespace: string, option: '-4' | '-6', lines: readonly string[]): string =>
      run('ip', ['-n', namespace, option, '-batch', '-'], `${lines.join('\n')}\n`);
    for (const [namespace, link] of [
      [this.node, 'veth0'],
      [this.pod, 'eth0'],
    ] as const) {
      const side = namespace === this.node ? nodeAddress : podAddress;
      batch(namespace, '-4', [
        'link set lo up',
        `link set ${link} up`,
        `addr add ${side[4]}/24 dev ${link}`,
      ]);
      batch(namespace, '-6', [`addr add ${side[6]}/64 dev ${link} nodad`]);
    }
    for (const [option, family] of [
      ['-4', 4],
      ['-6', 6],
    ] as const) {
      batch(this.node, option, [
        `rule add pref 9 fwmark ${redirectMark}/${markMask} lookup 2077`,
        'route add local default dev lo table 2077',
      ]);
      batch(this.pod, option, [`route add default via ${nodeAddress[family]}`]);
    }
  }

  #applyRules(): void {
    this.inNode(
      'nft',
      ['-f', '-'],
      `table inet tds {
        counter marked_udp { }
        counter marked_tcp { }
        counter bare { }
        chain mark_in {
          type filter hook prerouting priority mangle;
          iifname "veth0" ip daddr != ${nodeAddress[4]} meta l4proto { udp, tcp } th dport ${portP} meta mark set ${redirectMark}
          iifname "veth0" ip6 daddr != ${nodeAddress[6]} meta l4proto { udp, tcp } th dport ${portP} meta mark set ${redirectMark}
        }
        chain count_out {
          type filter hook output priority 0;
          oifname "veth0" udp sport ${portP} meta mark & ${markMask} == ${socketMark} counter name marked_udp
          oifname "veth0" tcp sport ${portP} meta mark & ${markMask} == ${socketMark} counter name marked_tcp
          oifname "veth0" meta l4proto { udp, tcp } th sport ${portP} meta mark & ${markMask} != ${socketMark} counter name bare
        }
      }`,
    );
  }

  inNode(command: string, args: readonly string[], input?: string): string {
    return run('nsenter', [`--net=/run/netns/${this.node}`, command, ...args], input);
  }

  inPod(command: string, args: readonly string[], input?: string): string {
    return run('nsenter', [`--net=/run/netns/${this.pod}`, command, ...args], input);
  }

  /** Packets that left by veth0 from port P: with the socket mark, and without. */
  packets(counter: 'marked_udp' | 'marked_tcp' | 'bare'): number {
    const text = this.inNode('nft', ['list', 'counter', 'inet', 'tds', counter]);
    return Number(/packets (\d+)/.exec(text)?.[1]);
  }

  [Symbol.dispose](): void {
    run('ip', ['netns', 'delete', this.node]);
    run('ip', ['netns', 'delete', this.pod]);
  }
}
