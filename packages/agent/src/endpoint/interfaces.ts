// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Which interface is a pod's? By the annotation where there is one, else by the route to its address
 * (point-to-point CNIs), else by the bridge port behind which its MAC address lives.
 */

import { isIpv4 } from '@tandem/core/net/ip';
import { ipv6State } from '@tandem/datapath/address-families';
import { TandemError } from '@tandem/runtime/tandem-error';
import { run } from '../node/command.ts';

export interface PodInterface {
  readonly name: string;
  /** Host side of the pod's veth. */
  readonly vethIfindex: number;
  /** The bridge, when the veth is a port of one; else vethIfindex. */
  readonly l3Ifindex: number;
  /** MAC address of the bridge, or zeros. */
  readonly bridgeMac: Uint8Array;
  readonly isBridged: boolean;
}

interface LinkJson {
  readonly ifindex: number;
  readonly ifname: string;
  readonly address?: string;
  readonly master?: string;
  readonly linkinfo?: { readonly info_kind?: string };
}

interface RouteJson {
  readonly dst: string;
  readonly dev?: string;
  readonly gateway?: string;
}

interface NeighborJson {
  readonly dst: string;
  readonly dev?: string;
  readonly lladdr?: string;
}

interface ForwardingJson {
  readonly mac: string;
  readonly ifname: string;
  readonly master?: string;
}

/** A picture of the node's interfaces, routes and neighbours; taken anew for each reconciliation. */
export class InterfaceTable {
  readonly #byName = new Map<string, LinkJson>();
  readonly #routes = new Map<string, string>();
  readonly #neighbors = new Map<string, NeighborJson>();
  readonly #ports = new Map<string, string>();

  /** What of the node could not be read, and why: pods that need it are not found. */
  readonly problems: string[] = [];

  /** Never rejects: a family or a program that is not there takes no pod away that needs neither. */
  static async read(): Promise<InterfaceTable> {
    const table = new InterfaceTable();
    const read = async <T>(program: string, args: readonly string[]): Promise<readonly T[]> => {
      try {
        return await readJson<T>(program, args);
      } catch (error) {
        table.problems.push(TandemError.from(error).message);
        return [];
      }
    };
    const [links, routes4, routes6, neighbors, forwarding] = await Promise.all([
      read<LinkJson>('ip', ['-j', '-d', 'link', 'show']),
      read<RouteJson>('ip', ['-j', '-4', 'route', 'show']),
      ipv6State() === 'absent' ? [] : read<RouteJson>('ip', ['-j', '-6', 'route', 'show']),
      read<NeighborJson>('ip', ['-j', 'neigh', 'show']),
      read<ForwardingJson>('bridge', ['-j', 'fdb', 'show']),
    ]);
    for (const link of links) table.#byName.set(link.ifname, link);
    for (const route of [...routes4, ...routes6]) {
      if (route.dev !== undefined && route.gateway === undefined) {
        table.#routes.set(route.dst, route.dev);
      }
    }
    for (const neighbor of neighbors) table.#neighbors.set(neighbor.dst, neighbor);
    for (const entry of forwarding) {
      if (entry.master !== undefined)
        table.#ports.set(`${entry.master} ${entry.mac}`, entry.ifname);
    }
    return table;
  }

  /** The interface of the pod with this address; null while it can't be found. */
  find(text: string, annotated: string | undefined): PodInterface | null {
    const name = annotated ?? this.#routes.get(text) ?? this.#bridgePort(text);
    const link = name === undefined ? undefined : this.#byName.get(name);
    if (link === undefined) return null;
    // A route to the address through a bridge says nothing about which port it is.
    if (link.linkinfo?.info_kind === 'bridge') return null;
    const master = link.master === undefined ? undefined : this.#byName.get(link.master);
    const isBridged = master?.linkinfo?.info_kind === 'bridge';
    return {
      name: link.ifname,
      vethIfindex: link.ifindex,
      l3Ifindex: isBridged ? master.ifindex : link.ifindex,
      bridgeMac: isBridged ? parseMac(master.address ?? '') : new Uint8Array(6),
      isBridged,
    };
  }

  indexOf(name: string): number | undefined {
    return this.#byName.get(name)?.ifindex;
  }

  #bridgePort(text: string): string | undefined {
    const neighbor = this.#neighbors.get(text);
    if (neighbor?.lladdr === undefined || neighbor.dev === undefined) return undefined;
    return this.#ports.get(`${neighbor.dev} ${neighbor.lladdr}`);
  }
}

/** Asks the kernel to resolve an address on a bridge, so that the next table knows its port. */
export async function provokeNeighbor(address: Uint8Array, text: string): Promise<void> {
  const family = isIpv4(address) ? '-4' : '-6';
  // A neighbour in state "probe" is asked by the kernel itself; no packet of ours is needed.
  // No route at all is an error of ip: then there is no bridge to ask either.
  const [route] = await readJson<RouteJson>('ip', ['-j', family, 'route', 'get', text]).catch(
    () => [],
  );
  if (route?.dev === undefined || route.gateway !== undefined) return;
  await run('ip', ['neigh', 'replace', text, 'dev', route.dev, 'nud', 'none', 'use']).catch(
    () => '',
  );
}

async function readJson<T>(program: string, args: readonly string[]): Promise<readonly T[]> {
  const text = (await run(program, args)).trim();
  return text === '' ? [] : (JSON.parse(text) as readonly T[]);
}

function parseMac(text: string): Uint8Array {
  return Uint8Array.from(text.split(':'), (octet) => Number.parseInt(octet, 16));
}
