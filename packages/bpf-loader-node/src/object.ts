// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// An ELF object with BPF programs and maps: open, change what may be changed before loading, load.
// Sections "netfilter" and "tcx/ingress", "tcx/egress" work with libbpf 1.1 too. The maps and programs
// taken out of an object are its own: disposing the object disposes them. What must outlive it is
// pinned, attached, or opened again by fd.

import { BpfMap } from './map.ts';
import {
  forgotten,
  type Handle,
  type MapDeclaration,
  native,
  type ProgramDeclaration,
} from './native.ts';
import { BpfProgram } from './program.ts';

export interface ObjectOptions {
  /** Prefix of internal map names in the kernel; default: the file's name. */
  readonly name?: string;
}

export class BpfObject implements Disposable {
  #handle: Handle;
  readonly #maps = new Map<string, BpfMap>();
  readonly #programs = new Map<string, BpfProgram>();

  private constructor(handle: Handle) {
    this.#handle = handle;
    forgotten.register(this, handle, this);
  }

  /** @throws BpfError OPEN when it is no BPF object. */
  static open(path: string, options: ObjectOptions = {}): BpfObject {
    return new BpfObject(native.objectOpen(path, options.name ?? null));
  }

  /**
   * Sets a `const volatile` variable before load: the verifier sees it as a constant.
   * @throws RangeError when the length is not the variable's; BpfError NOT_FOUND, STATE after load.
   */
  setRodata(variable: string, bytes: Uint8Array): void {
    native.objectSetRodata(this.#handle, variable, bytes);
  }

  /**
   * Uses a pinned map instead of making a new one, at load.
   * @throws BpfError MISMATCH when type, sizes, entries or flags differ; NOT_FOUND without a pin.
   */
  reusePin(map: string, path: string): void {
    native.objectReusePin(this.#handle, map, path);
  }

  setMaxEntries(map: string, count: number): void {
    native.objectSetMaxEntries(this.#handle, map, count);
  }

  /** Whether `load` loads this program; default true unless its section begins with "?". */
  setAutoload(program: string, isLoaded: boolean): void {
    native.objectSetAutoload(this.#handle, program, isLoaded);
  }

  /** Once; after a failure open the file again. @throws BpfError LOAD with the verifier's log. */
  load(): void {
    native.objectLoad(this.#handle);
  }

  /** A map, after load; the same wrapper at each call until that is disposed. */
  map(name: string): BpfMap {
    let map = this.#maps.get(name);
    if (map === undefined || map.handle === 0) {
      map = new BpfMap(native.objectMap(this.#handle, name));
      this.#maps.set(name, map);
    }
    return map;
  }

  /** A program, after load; the same wrapper at each call until that is disposed. */
  program(name: string): BpfProgram {
    let program = this.#programs.get(name);
    if (program === undefined || program.handle === 0) {
      program = new BpfProgram(native.objectProgram(this.#handle, name), name);
      this.#programs.set(name, program);
    }
    return program;
  }

  /** Declarations, before load too; read-only data appears as a map. */
  maps(): readonly MapDeclaration[] {
    return native.objectMaps(this.#handle);
  }

  programs(): readonly ProgramDeclaration[] {
    return native.objectPrograms(this.#handle);
  }

  /** The object's type information, raw: `btf.ts` makes layouts of it. */
  btf(): Uint8Array {
    return native.objectBtf(this.#handle);
  }

  [Symbol.dispose](): void {
    for (const program of this.#programs.values()) program[Symbol.dispose]();
    for (const map of this.#maps.values()) map[Symbol.dispose]();
    this.#programs.clear();
    this.#maps.clear();
    forgotten.unregister(this);
    native.handleClose(this.#handle);
    this.#handle = 0;
  }
}
