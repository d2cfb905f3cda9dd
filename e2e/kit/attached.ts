// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Programs and links that are attached to a node, by the kernel's ids: what a process that failed must not have changed. */

import { readdirSync } from 'node:fs';
import { BpfLink } from '@tandem/bpf-loader-node/link';
import { Datapath } from '@tandem/datapath/datapath';
import { NodeGroup } from '@tandem/datapath/group';
import { programNames } from '@tandem/datapath/paths';
import type { TandemNode } from './tandem-node.ts';

export interface Attached {
  /** By the link's pin: the link, and the program in it. */
  readonly links: Readonly<Record<string, { readonly link: number; readonly program: number }>>;
  /** By name, of the pinned programs. */
  readonly programs: Readonly<Record<string, number>>;
  /** The judge that the root calls. */
  readonly judge: number;
  /** How often an agent swapped programs in. */
  readonly loads: number;
}

export function attached(tandem: TandemNode): Attached {
  using datapath = Datapath.open(tandem.pinRoot);
  const links: Record<string, { link: number; program: number }> = {};
  for (const name of readdirSync(datapath.paths.links).sort()) {
    using link = BpfLink.openPinned(datapath.paths.link(name));
    const { id, programId } = link.info();
    links[name] = { link: id, program: programId };
  }
  const programs = Object.fromEntries(
    programNames.map((name) => [name, datapath.program(name).id] as const),
  );
  const slot = datapath.map('judge_slot').lookup(new Uint8Array(4)) ?? new Uint8Array(4);
  const group = datapath.map('group').lookup(new Uint8Array(4)) ?? new Uint8Array(0);
  return {
    links,
    programs,
    judge: new DataView(slot.buffer).getUint32(0, true),
    loads: NodeGroup.copyOf(group).loads,
  };
}
