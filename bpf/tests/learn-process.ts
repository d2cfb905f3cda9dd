// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One of the processes of learn.concurrent.test.ts: fd 3 is the program `learn`, fd 4 the map
 * `learn_requests`; the plan is one JSON argument. Says "ready", waits for a byte, and prints one JSON line
 * with what it did.
 */

import { readSync } from 'node:fs';
import { BpfMap } from '@tandem/bpf-loader-node/map';
import { BpfProgram } from '@tandem/bpf-loader-node/program';
import { mappedAddressBytes } from '@tandem/testing/address';

export interface LearnPlan {
  readonly writer: number;
  readonly addresses: readonly string[];
  /** `add`: each selector to each address once. `churn`: add and remove them. `random`: add and remove some. */
  readonly kind: 'add' | 'churn' | 'random';
  readonly selectors: readonly number[];
  /** null: without end. */
  readonly rounds: number | null;
  readonly namespaceId: number;
  readonly expires: number;
  /** `random`: how many in 10 additions are offers. Default 0. */
  readonly offersIn10?: number;
}

/** struct td_learn_request: what this process writes, by offset; learn.concurrent.test.ts checks it. */
export const requestLayout = {
  size: 48,
  addr: 0,
  selector: 16,
  expires_s: 20,
  namespace_id: 24,
  op: 28,
  result: 30,
  offered: 36,
} as const;
const batchMax = 128;
const op = { ADD: 1, REMOVE: 2 } as const;
const busy = -6;

interface Request {
  readonly op: number;
  readonly address: Uint8Array;
  readonly selector: number;
  readonly isOffered?: boolean;
}

function run(plan: LearnPlan): { busy: number; results: Record<number, number> } {
  using program = BpfProgram.fromFd(3);
  using map = BpfMap.fromFd(4);
  const memory = map.mmap();
  const base = plan.writer * requestLayout.size * batchMax;
  const view = new DataView(memory, base);
  const bytes = new Uint8Array(memory, base);
  const args = new Uint8Array(16);
  const argsView = new DataView(args.buffer);
  const results: Record<number, number> = {};
  let busyCount = 0;

  const submit = (requests: readonly Request[]): void => {
    let left = requests;
    while (left.length > 0) {
      const batch = left.slice(0, batchMax);
      for (const [i, request] of batch.entries()) {
        const at = i * requestLayout.size;
        bytes.fill(0, at, at + requestLayout.size);
        bytes.set(request.address, at + requestLayout.addr);
        view.setUint32(at + requestLayout.selector, request.selector, true);
        view.setUint32(at + requestLayout.expires_s, plan.expires, true);
        view.setUint32(at + requestLayout.namespace_id, plan.namespaceId, true);
        view.setUint16(at + requestLayout.op, request.op, true);
        view.setUint32(at + requestLayout.offered, request.isOffered === true ? 1 : 0, true);
      }
      argsView.setUint32(0, plan.writer, true);
      argsView.setUint32(4, batch.length, true);
      if (program.runSyscall(args) !== 0) throw new Error('learn refused the run');
      const again: Request[] = [];
      for (const [i, request] of batch.entries()) {
        const result = view.getInt16(i * requestLayout.size + requestLayout.result, true);
        if (result === busy) again.push(request);
        else results[result] = (results[result] ?? 0) + 1;
      }
      busyCount += again.length;
      left = [...again, ...left.slice(batch.length)];
    }
  };

  const addresses = plan.addresses.map(mappedAddressBytes);
  const each = (code: number): Request[] =>
    addresses.flatMap((address) =>
      plan.selectors.map((selector) => ({ op: code, address, selector })),
    );
  console.log('ready');
  readSync(0, new Uint8Array(1));
  const random = (below: number): number => Math.floor(Math.random() * below);
  const some = (): Request[] =>
    Array.from({ length: batchMax }, () => ({
      op: random(10) === 0 ? op.REMOVE : op.ADD,
      address: addresses[random(addresses.length)] as Uint8Array,
      selector: plan.selectors[random(plan.selectors.length)]!,
      isOffered: random(10) < (plan.offersIn10 ?? 0),
    }));
  for (let round = 0; round < (plan.rounds ?? Infinity); round++) {
    if (plan.kind === 'random') {
      submit(some());
      continue;
    }
    submit(each(op.ADD));
    // apart from the additions: one that was busy is repeated, and must not come after its removal
    if (plan.kind === 'churn') submit(each(op.REMOVE));
  }
  return { busy: busyCount, results };
}

if (process.argv[2] !== undefined) {
  console.log(JSON.stringify(run(JSON.parse(process.argv[2]) as LearnPlan)));
}
