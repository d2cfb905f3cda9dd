// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The batch of requests for `learn`, the one writer of the kernel's `fqdn` map: requests are laid down
 * in memory that the kernel reads, one system call runs them all.
 */

import type { BpfMap } from '@tandem/bpf-loader-node/map';
import type { BpfProgram } from '@tandem/bpf-loader-node/program';
import { tdLearnArgs, tdLearnBatch, tdLearnRequest, tdLearnResult } from '@tandem/datapath/abi.gen';

/** Layout of a request in words; the address comes first. */
export const requestWords: number = tdLearnRequest.size / 4;
export const selectorWord: number = tdLearnRequest.selector / 4;
export const expiresWord: number = tdLearnRequest.expires_s / 4;
export const namespaceWord: number = tdLearnRequest.namespace_id / 4;
export const aaaaWord: number = tdLearnRequest.aaaa / 4;
const offeredWord: number = tdLearnRequest.offered / 4;

export const learnBatchMax: number = tdLearnBatch.size / tdLearnRequest.size;

/** Runs of one batch again because a page was busy; the kernel waits itself before it says so. */
const busyRetriesMax = 3;

export class KernelWriter {
  /** Requests as words: address at `wordOf(i)`. */
  readonly words: Uint32Array;
  readonly #halves: Uint16Array;
  readonly #results: Int16Array;
  #program: Pick<BpfProgram, 'runSyscall'>;
  readonly #args = new Uint8Array(tdLearnArgs.size);
  readonly #argWords = new Uint32Array(this.#args.buffer);
  readonly #index: number;
  count = 0;
  #evicted = 0;

  /** `index` is the batch that is ours alone: one per thread that writes. */
  constructor(
    requests: Pick<BpfMap, 'mmap'>,
    program: Pick<BpfProgram, 'runSyscall'>,
    index: number,
  ) {
    const memory = requests.mmap();
    const offset = index * tdLearnBatch.size;
    this.words = new Uint32Array(memory, offset, tdLearnBatch.size / 4);
    this.#halves = new Uint16Array(memory, offset, tdLearnBatch.size / 2);
    this.#results = new Int16Array(memory, offset, tdLearnBatch.size / 2);
    this.#program = program;
    this.#index = index;
  }

  /** From now on this version of `learn` writes. */
  follow(program: Pick<BpfProgram, 'runSyscall'>): void {
    this.#program = program;
  }

  get isFull(): boolean {
    return this.count === learnBatchMax;
  }

  wordOf(request: number): number {
    return request * requestWords;
  }

  selectorOf(request: number): number {
    return this.words[this.wordOf(request) + selectorWord]!;
  }

  namespaceOf(request: number): number {
    return this.words[this.wordOf(request) + namespaceWord]!;
  }

  /** Expiry of a pair whose removal was answered with KEPT, after `run`. */
  expiresOf(request: number): number {
    return this.words[this.wordOf(request) + expiresWord]!;
  }

  opOf(request: number): number {
    return this.#halves[(request * tdLearnRequest.size + tdLearnRequest.op) / 2]!;
  }

  /** `td_learn_result` of a request after `run`. */
  resultOf(request: number): number {
    return this.#results[(request * tdLearnRequest.size + tdLearnRequest.result) / 2]!;
  }

  /** Pairs that the last batch evicted. */
  get evicted(): number {
    return this.#evicted;
  }

  /**
   * Appends a request; the batch must not be full. `words` + `offset`: the address, 4 words. `isOffered`: no
   * policy of the namespace wants it.
   */
  add(
    op: number,
    words: Uint32Array,
    offset: number,
    selector: number,
    expires: number,
    namespaceId: number,
    isAaaa: boolean,
    isOffered = false,
  ): void {
    const request = this.count;
    const at = this.wordOf(request);
    for (let i = 0; i < 4; i++) this.words[at + i] = words[offset + i]!;
    this.words[at + selectorWord] = selector;
    this.words[at + expiresWord] = expires;
    this.words[at + namespaceWord] = namespaceId;
    this.words[at + aaaaWord] = isAaaa ? 1 : 0;
    this.words[at + offeredWord] = isOffered ? 1 : 0;
    const half = (request * tdLearnRequest.size + tdLearnRequest.op) / 2;
    this.#halves[half] = op;
    this.#halves[half + 1] = 0;
    this.count = request + 1;
  }

  /** Runs the batch; returns how many requests failed. The caller reads results, then sets count = 0. */
  run(): number {
    this.#evicted = 0;
    return this.#runOnce();
  }

  /**
   * As `run`, of a batch of ADD alone, and again where another writer was caught between two steps on the same page. The
   * others are repeated harmlessly: adding an existing pair changes nothing.
   */
  runAdds(): number {
    let failed = this.run();
    for (let again = 0; again < busyRetriesMax && failed > 0 && this.#hasBusy(); again++) {
      failed = this.#runOnce();
    }
    return failed;
  }

  #runOnce(): number {
    this.#argWords[tdLearnArgs.writer / 4] = this.#index;
    this.#argWords[tdLearnArgs.count / 4] = this.count;
    this.#argWords[tdLearnArgs.failed / 4] = 0;
    this.#argWords[tdLearnArgs.evicted / 4] = 0;
    this.#program.runSyscall(this.#args);
    this.#evicted += this.#argWords[tdLearnArgs.evicted / 4]!;
    return this.#argWords[tdLearnArgs.failed / 4]!;
  }

  #hasBusy(): boolean {
    for (let i = 0; i < this.count; i++) {
      if (this.resultOf(i) === tdLearnResult.REFUSED_BUSY) return true;
    }
    return false;
  }
}
