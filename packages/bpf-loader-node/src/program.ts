// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// A loaded BPF program: test runs, pins, and the allocation-free call of syscall programs.

import type { ProgramId } from './ids.ts';
import { forgotten, type Handle, handleKind, native, type ProgramFacts } from './native.ts';

/** BPF_PROG_TYPE_* of uapi/linux/bpf.h: the types that Tandem uses. */
export const programType = {
  schedCls: 3,
  cgroupSockAddr: 18,
  skReuseport: 21,
  syscall: 31,
  netfilter: 32,
} as const;

export interface TestRunOptions {
  /** The packet: for tc programs Ethernet, at least 14 bytes. */
  readonly data?: Uint8Array;
  /** The context struct (struct __sk_buff, ...); fields that the kernel does not take must be zero. */
  readonly ctx?: Uint8Array;
  /** Runs in a row, for `durationNs`; default 1. */
  readonly repeat?: number;
  /** Room for the packet afterwards; default: length of `data` + 256, 0 without data. */
  readonly dataOutSize?: number;
  /** Room for the context afterwards; default: length of `ctx`, 0 for syscall programs (in place). */
  readonly ctxOutSize?: number;
  /** BPF_F_TEST_*; default 0. */
  readonly flags?: number;
}

export interface TestRunResult {
  /** Unsigned. */
  readonly retval: number;
  readonly data: Uint8Array;
  /** For syscall programs a copy of the context as the program left it. */
  readonly ctx: Uint8Array;
  /** Mean of one run. */
  readonly durationNs: number;
}

const dataOutHeadroomBytes = 256;
const noBytes = new Uint8Array(0);

export class BpfProgram implements Disposable {
  readonly id: ProgramId;
  /** As in the object file; from a pin the kernel's first 15 characters. */
  readonly name: string;
  /** BPF_PROG_TYPE_*. */
  readonly type: number;
  #handle: Handle;

  /** Internal: use `openPinned`, `fromFd`, `openId` or `BpfObject.program`. */
  constructor(handle: Handle, name?: string) {
    const facts = native.programInfo(handle);
    this.id = facts.id;
    this.name = name ?? facts.name;
    this.type = facts.type;
    this.#handle = handle;
    forgotten.register(this, handle, this);
  }

  /** @throws BpfError NOT_FOUND when there is no pin, KIND when it is no program. */
  static openPinned(path: string): BpfProgram {
    return new BpfProgram(native.openPinned(handleKind.program, path, 0));
  }

  /** Duplicates `fd`; the caller keeps its own. */
  static fromFd(fd: number): BpfProgram {
    return new BpfProgram(native.openFd(handleKind.program, fd));
  }

  /** Needs CAP_SYS_ADMIN. */
  static openId(id: ProgramId): BpfProgram {
    return new BpfProgram(native.openId(handleKind.program, id));
  }

  /** Borrowed: valid while this program is neither disposed nor collected. */
  get fd(): number {
    return native.handleFd(this.#handle);
  }

  /** Internal: for wrappers of this package; 0 once disposed. */
  get handle(): Handle {
    return this.#handle;
  }

  /** BPF_PROG_TEST_RUN with copies of everything: for tests, benchmarks and set-up. */
  testRun(options: TestRunOptions = {}): TestRunResult {
    const isSyscall = this.type === programType.syscall;
    const { data = noBytes, repeat = 1, flags = 0 } = options;
    // The kernel writes a syscall program's context back in place.
    const ctx = isSyscall ? (options.ctx ?? noBytes).slice() : (options.ctx ?? noBytes);
    const dataOut = new Uint8Array(
      options.dataOutSize ?? (data.length > 0 ? data.length + dataOutHeadroomBytes : 0),
    );
    const ctxOut = new Uint8Array(options.ctxOutSize ?? (isSyscall ? 0 : ctx.length));
    const facts = native.programTestRun(
      this.#handle,
      data,
      ctx,
      dataOut,
      ctxOut,
      isSyscall ? 0 : repeat,
      flags,
    );
    return {
      retval: facts.retval,
      data: dataOut.subarray(0, facts.dataSize),
      ctx: isSyscall ? ctx : ctxOut.subarray(0, facts.ctxSize),
      durationNs: facts.durationNs,
    };
  }

  /**
   * Runs a syscall program once; it reads and writes `ctx` (at most 65,535 bytes) in place. Returns
   * the program's own return value, signed. Allocates nothing.
   */
  runSyscall(ctx: Uint8Array): number {
    return native.programRunSyscall(this.#handle, ctx);
  }

  /** The path must lie in a bpffs and not exist. */
  pin(path: string): void {
    native.handlePin(this.#handle, path);
  }

  info(): ProgramFacts {
    return native.programInfo(this.#handle);
  }

  /** Closes the fd. Later use throws BpfError CLOSED. */
  [Symbol.dispose](): void {
    forgotten.unregister(this);
    native.handleClose(this.#handle);
    this.#handle = 0;
  }
}

/** Ids of all programs of the kernel. Needs CAP_SYS_ADMIN. */
export function* programIds(): Generator<ProgramId, void, undefined> {
  for (let id = native.nextId(handleKind.program, 0); id !== 0; ) {
    yield id;
    id = native.nextId(handleKind.program, id);
  }
}
