// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The programs and maps of a node, loaded into the kernel and attached to nothing. */

import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { BpfMap } from '@tandem/bpf-loader-node/map';
import { BpfObject } from '@tandem/bpf-loader-node/object';
import type { BpfProgram } from '@tandem/bpf-loader-node/program';
import { TD_MEMBERS_MAX } from '@tandem/datapath/abi.gen';
import { encodeConfig } from '@tandem/datapath/config';
import { KernelWriter } from '../src/answer/kernel-writer.ts';

const directory = fileURLToPath(new URL('../../../bpf', import.meta.url));
const fqdnEntries = 4096;

export interface KernelMaps extends Disposable {
  readonly fqdn: BpfMap;
  readonly journal: BpfMap;
  map(name: string): BpfMap;
  program(name: string): BpfProgram;
  /** Writer of a main thread. */
  readonly writer: KernelWriter;
}

export function loadKernelMaps(quota: number = fqdnEntries): KernelMaps {
  execFileSync('make', ['-s', 'all'], { cwd: directory });
  const object = BpfObject.open(`${directory}/build/tandem.bpf.o`);
  object.setRodata(
    'td_config',
    encodeConfig({
      mark: 0x1000,
      port: 10_053,
      ownerUid: 65_532,
      netnsCookie: 0n,
      staleNs: 100_000_000,
      fqdnIdleSeconds: 60,
      fqdnLiveSeconds: 1000,
      fqdnLiveIdleSeconds: 100,
      connectsPerSecond: 1000,
      datagramsPerSecond: 10_000,
      nat64Prefixes: [],
      quotaNamespace: quota,
      quotaSelector: quota,
    }),
  );
  object.setMaxEntries('fqdn', fqdnEntries);
  object.load();
  return {
    fqdn: object.map('fqdn'),
    journal: object.map('journal2'),
    map: (name) => object.map(name),
    program: (name) => object.program(name),
    writer: new KernelWriter(object.map('learn_requests'), object.program('learn'), TD_MEMBERS_MAX),
    [Symbol.dispose]: () => object[Symbol.dispose](),
  };
}
