// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Calls of bpf(2) that fail on purpose in a process that is started, or in whose place it is killed. */

import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Commands of bpf(2) that a start uses: enum bpf_cmd (uapi/linux/bpf.h). */
export const bpfCommands = {
  MAP_CREATE: 0,
  MAP_UPDATE_ELEM: 2,
  MAP_DELETE_ELEM: 3,
  PROG_LOAD: 5,
  OBJ_PIN: 6,
  OBJ_GET: 7,
  BTF_LOAD: 18,
  MAP_FREEZE: 22,
  MAP_UPDATE_BATCH: 26,
  MAP_DELETE_BATCH: 27,
  LINK_CREATE: 28,
  LINK_UPDATE: 29,
} as const;
export type BpfCommand = keyof typeof bpfCommands;

export interface BpfFault {
  readonly command: BpfCommand;
  /** Which call of the command in the process, from 1. */
  readonly nth: number;
  /** Result of the call; KILL: the process ends by SIGKILL and the call is not made. */
  readonly how: 'EINVAL' | 'ENOMEM' | 'ENOSPC' | 'EPERM' | 'KILL';
}

const commandsMax = 64;
const source = fileURLToPath(new URL('./native/bpf-fault.c', import.meta.url));

export class BpfFaults {
  readonly #library: string;
  readonly #counts: string;
  #fault: BpfFault | null = null;

  /** Compiles the library that is preloaded. `directory`: for it and the counts. */
  constructor(directory: string) {
    this.#library = join(directory, 'bpf-fault.so');
    this.#counts = join(directory, 'bpf-counts');
    execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', this.#library, source, '-ldl']);
    this.set(null);
  }

  /** For the process that starts next. */
  set(fault: BpfFault | null): void {
    this.#fault = fault;
    writeFileSync(this.#counts, new Uint8Array(2 * commandsMax * 4));
  }

  /** In the process that runs: each call of the command fails from now on; null: none. */
  failFromNow(command: BpfCommand, how: Exclude<BpfFault['how'], 'KILL'> | null): void {
    const error = new Uint8Array(4);
    new DataView(error.buffer).setUint32(0, how === null ? 0 : constants.errno[how], true);
    const file = openSync(this.#counts, 'r+');
    writeSync(file, error, 0, error.length, (commandsMax + bpfCommands[command]) * error.length);
    closeSync(file);
  }

  /** Calls by command since `set`. */
  counts(): Readonly<Record<BpfCommand, number>> {
    const { buffer, byteOffset } = readFileSync(this.#counts);
    const view = new DataView(buffer, byteOffset);
    return Object.fromEntries(
      Object.entries(bpfCommands).map(([name, at]) => [name, view.getUint32(at * 4, true)]),
    ) as Record<BpfCommand, number>;
  }

  get environment(): Readonly<Record<string, string>> {
    const preload = { LD_PRELOAD: this.#library, BPF_FAULT_COUNTS: this.#counts };
    if (this.#fault === null) return preload;
    const { command, nth, how } = this.#fault;
    const error = how === 'KILL' ? 0 : constants.errno[how];
    return { ...preload, BPF_FAULT: `${bpfCommands[command]}:${nth}:${error}` };
  }
}
