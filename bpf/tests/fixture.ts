// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The programs, loaded for one test file with small maps: runs a frame or a packet through one of them, and tells the verdict, the
 * counters that moved and the events. The world that they see is kernel-world.ts.
 */

import assert from 'node:assert/strict';
import { btfTypes } from '@tandem/bpf-loader-node/btf';
import { RingBuffer } from '@tandem/bpf-loader-node/ringbuf';
import { buildPacket } from '@tandem/testing/packet';
import { type ParsedPacket, parsePacket } from '@tandem/testing/packet-parse';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { KernelWorld } from './kernel-world.ts';

export interface FrameResult {
  readonly verdict: 'next' | 'drop';
  readonly mark: number;
  /** skb->priority after it. */
  readonly priority: number;
  readonly packet: ParsedPacket;
  readonly bytes: Uint8Array;
  readonly counted: Readonly<Record<string, number>>;
}

export interface TestEvent {
  readonly bytes: Uint8Array;
  read(field: string): number;
  slice(field: string): Uint8Array;
}

/** NF_INET_*. */
const hookNumbers = { 'pre-routing': 0, 'local-in': 1, 'post-routing': 4 } as const;

export class Fixture extends KernelWorld implements Disposable {
  readonly #counterNames: readonly string[];
  readonly #ring: RingBuffer;
  #events: Uint8Array[] = [];

  /**
   * `isTestObject`: what judge reads of the kernel comes from `facts`; else the object that is shipped.
   * `config`: fields of td_config that are not as usual.
   */
  constructor(
    maxEntries: Readonly<Record<string, number>> = {},
    isTestObject = true,
    config: Readonly<Record<string, number | Uint8Array>> = {},
  ) {
    super(maxEntries, isTestObject, config);
    this.#counterNames = [...btfTypes(this.object).enumerators]
      .filter(([name]) => name.startsWith('TD_COUNT_'))
      .toSorted(([, a], [, b]) => a - b)
      .map(([name]) => name.slice('TD_COUNT_'.length));
    this.#ring = new RingBuffer(this.map('events'), (bytes, lengths, count) => {
      let at = 0;
      for (let i = 0; i < count; i++) {
        const length = lengths[i] ?? 0;
        this.#events.push(bytes.slice(at, at + length));
        at += (length + 7) & ~7;
      }
    });
    this.#ring.setKeepsAlive(false);
  }

  override reset(): void {
    super.reset();
    this.takeEvents();
  }

  /** Name of a drop's counter, as counters() has it. */
  reason(number: number): string {
    return this.#counterNames[number] ?? String(number);
  }

  counters(): Readonly<Record<string, number>> {
    const sums: Record<string, number> = {};
    for (const [index, name] of this.#counterNames.entries()) {
      if (index >= this.map('counters').maxEntries) break;
      sums[name] = this.sumOfCpus('counters', index);
    }
    return sums;
  }

  /** One value of a per-CPU array. */
  sumOfCpus(name: string, index: number): number {
    const key = new Uint8Array(4);
    key[0] = index;
    const value = this.map(name).lookup(key);
    assert.ok(value !== null);
    const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
    let sum = 0;
    for (let at = 0; at < value.byteLength; at += 8) sum += Number(view.getBigUint64(at, true));
    return sum;
  }

  /** The counters that moved while `action` ran. */
  counting<T>(action: () => T): { readonly result: T; readonly counted: Record<string, number> } {
    const before = this.counters();
    const result = action();
    const counted: Record<string, number> = {};
    for (const [name, value] of Object.entries(this.counters())) {
      const moved = value - (before[name] ?? 0);
      if (moved !== 0) counted[name] = moved;
    }
    return { result, counted };
  }

  /**
   * One frame through a tcx program; `linear`: bytes in the linear part (kernels that offer it); `ingress`: the
   * interface by which it came in, 0 for the host's own.
   */
  frame(
    program: 'from_pod' | 'to_pod' | 'guard_exit',
    frame: PacketSpec | Uint8Array,
    options: {
      readonly mark?: number;
      readonly priority?: number;
      readonly linear?: number;
      readonly ingress?: number;
      readonly gsoSize?: number;
    } = {},
  ): FrameResult {
    const data = frame instanceof Uint8Array ? frame : buildPacket(frame);
    const ctx = new Uint8Array(this.structs.layout('__sk_buff').size);
    this.structs.write('__sk_buff', ctx, 'mark', options.mark ?? 0);
    this.structs.write('__sk_buff', ctx, 'priority', options.priority ?? 0);
    this.structs.write('__sk_buff', ctx, 'ingress_ifindex', options.ingress ?? 0);
    this.structs.write('__sk_buff', ctx, 'gso_size', options.gsoSize ?? 0);
    if (options.linear !== undefined) {
      this.structs.write('__sk_buff', ctx, 'data_end', options.linear);
    }
    const { result, counted } = this.counting(() =>
      this.object.program(program).testRun({ data, ctx }),
    );
    const retval = result.retval | 0;
    assert.ok(retval === -1 || retval === 2, `verdict ${retval}: TCX_NEXT or TCX_DROP, no other`);
    return {
      verdict: retval === -1 ? 'next' : 'drop',
      mark: this.structs.read('__sk_buff', result.ctx, 'mark'),
      priority: this.structs.read('__sk_buff', result.ctx, 'priority'),
      packet: parsePacket(result.data),
      bytes: result.data,
      counted,
    };
  }

  /** One packet through a netfilter program at a hook. */
  hook(
    program: 'judge' | 'judge_root' | 'guard_entry' | 'guard_entry_root',
    hook: keyof typeof hookNumbers,
    packet: PacketSpec | Uint8Array,
  ): { readonly verdict: 'accept' | 'drop'; readonly counted: Readonly<Record<string, number>> } {
    const data = packet instanceof Uint8Array ? packet : buildPacket(packet);
    const state = new Uint8Array(48); // struct nf_hook_state: hook, pf, pointers
    state[0] = hookNumbers[hook];
    state[1] = (data[14] ?? 0) >> 4 === 4 ? 2 : 10;
    const { result, counted } = this.counting(() =>
      this.object.program(program).testRun({ data, ctx: state, dataOutSize: 0, ctxOutSize: 0 }),
    );
    return { verdict: result.retval === 1 ? 'accept' : 'drop', counted };
  }

  takeEvents(): TestEvent[] {
    while (this.#ring.consume() > 0);
    const events = this.#events;
    this.#events = [];
    return events.map((bytes) => ({
      bytes,
      read: (field) => this.structs.read('td_event', bytes, field),
      slice: (field) => this.structs.slice('td_event', bytes, field),
    }));
  }

  [Symbol.dispose](): void {
    this.#ring.close();
    this.object[Symbol.dispose]();
  }
}
