// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The kernel's table of IPVS as processes see it that are started with `environment`: this machine's kernel may have no IPVS.
 * Everything else of them is real.
 */

import { execFileSync } from 'node:child_process';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const source = fileURLToPath(new URL('./native/ipvs-table.c', import.meta.url));
/** As the kernel writes it (net/netfilter/ipvs/ip_vs_ctl.c), with one virtual service and its server. */
const table = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:01BB rr
  -> C0A83C01:192B      Masq    1      0          0
`;

export class IpvsTable {
  readonly #library: string;
  readonly #path: string;

  /** Compiles the library that is preloaded. There is no table yet. `directory`: for it and the table. */
  constructor(directory: string) {
    this.#library = join(directory, 'ipvs-table.so');
    this.#path = join(directory, 'ip_vs');
    execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', this.#library, source, '-ldl']);
  }

  /** kube-proxy writes its Services. */
  fill(): void {
    const whole = `${this.#path}.new`;
    writeFileSync(whole, table, { mode: 0o444 });
    renameSync(whole, this.#path);
  }

  /** The module is unloaded. */
  remove(): void {
    rmSync(this.#path, { force: true });
  }

  get environment(): Readonly<Record<string, string>> {
    return { LD_PRELOAD: this.#library, IPVS_TABLE: this.#path };
  }
}
