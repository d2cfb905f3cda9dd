// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `learned_order` as people and the agent read it: learned pairs of each namespace, and their limits. */

import type { BpfMap } from '@tandem/bpf-loader-node/map';
import type { BpfProgram } from '@tandem/bpf-loader-node/program';
import type { NamespaceId } from '@tandem/core/ids';
import { TD_SPACES_MAX, tdOrder, tdShareArgs, tdSpace } from './abi.gen.ts';

export interface LearnedSpace {
  /** 0: the pool of offers, pairs that only policies of other namespaces want. */
  readonly namespaceId: NamespaceId;
  readonly used: number;
  readonly share: number;
  readonly limit: number;
  /** Pairs that made room for newer ones of the namespace itself, and for other namespaces; what found no room. */
  readonly replaced: number;
  readonly yielded: number;
  readonly refused: number;
}

/** Every namespace that has pairs or may have some; the pool of offers first. */
export function readLearnedSpaces(order: Pick<BpfMap, 'lookup'>): LearnedSpace[] {
  const value = order.lookup(new Uint8Array(4));
  if (value === null) return [];
  const view = new DataView(value.buffer, value.byteOffset);
  const count = Math.min(view.getUint32(tdOrder.used_spaces, true), TD_SPACES_MAX - 1);
  const spaces: LearnedSpace[] = [];
  for (let number = 0; number <= count; number++) {
    const at = tdOrder.space + number * tdSpace.size;
    const field = (offset: number): number => view.getUint32(at + offset, true);
    const namespaceId = field(tdSpace.namespace_id) as NamespaceId;
    if (number > 0 && namespaceId === 0) continue;
    spaces.push({
      namespaceId,
      used: field(tdSpace.used),
      share: field(tdSpace.share),
      limit: field(tdSpace.limit),
      replaced: field(tdSpace.replaced),
      yielded: field(tdSpace.yielded),
      refused: field(tdSpace.refused),
    });
  }
  return spaces;
}

/** False: the kernel has no room for another namespace. With limit 0 and no pairs the namespace is forgotten. */
export function setShare(
  program: Pick<BpfProgram, 'runSyscall'>,
  namespaceId: NamespaceId,
  share: number,
  limit: number,
): boolean {
  const args = new Uint8Array(tdShareArgs.size);
  const view = new DataView(args.buffer);
  view.setUint32(tdShareArgs.namespace_id, namespaceId, true);
  view.setUint32(tdShareArgs.share, share, true);
  view.setUint32(tdShareArgs.limit, limit, true);
  return program.runSyscall(args) === 0;
}
