// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** firewalld in a namespace, with its own defaults and a system bus of its own. `./run setup` unpacks it. */

import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Namespace, ownPrefix } from '@tandem/testing/namespace';
import { run, startProcess, tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';

const unpacked = fileURLToPath(new URL('../../.tools/firewalld', import.meta.url));
const commandTimeoutMs = 60_000;

/** The bus lets everybody own and call everything: nobody else has its socket. */
const busConfig = (socket: string): string => `<busconfig>
  <type>system</type>
  <listen>unix:path=${socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow own="*"/><allow user="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
`;

export class Firewalld implements AsyncDisposable {
  readonly #namespace: Namespace;
  readonly #directory = mkdtempSync(join(tmpdir(), `${ownPrefix}0-firewalld-`));
  readonly #stack = new AsyncDisposableStack();
  readonly #environment: NodeJS.ProcessEnv;

  private constructor(namespace: Namespace) {
    this.#namespace = namespace;
    this.#stack.defer(() => rmSync(this.#directory, { recursive: true }));
    const socket = join(this.#directory, 'bus');
    this.#environment = { ...process.env, DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${socket}` };
    writeFileSync(join(this.#directory, 'bus.conf'), busConfig(socket));
    cpSync(join(unpacked, 'etc/firewalld'), join(this.#directory, 'etc'), { recursive: true });
  }

  /** Resolves when its rules are in the kernel. */
  static async start(namespace: Namespace): Promise<Firewalld> {
    const firewalld = new Firewalld(namespace);
    try {
      firewalld.#spawn('dbus-daemon', [
        ...['--nofork', '--nopidfile', '--nosyslog'],
        `--config-file=${join(firewalld.#directory, 'bus.conf')}`,
      ]);
      firewalld.#spawn(join(unpacked, 'usr/sbin/firewalld'), [
        ...['--nofork', '--nopid', '--log-target=console'],
        `--default-config=${join(unpacked, 'usr/lib/firewalld')}`,
        `--system-config=${join(firewalld.#directory, 'etc')}`,
      ]);
      const isRunning = async (): Promise<boolean> =>
        (await tryRun(...firewalld.#command(['--state']), firewalld.#options)).status === 0;
      await waitFor(isRunning, { what: 'firewalld to run' });
      return firewalld;
    } catch (error) {
      await firewalld[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Runs firewall-cmd; throws unless it succeeds. */
  async command(...args: readonly string[]): Promise<string> {
    return (await run(...this.#command(args), this.#options)).stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  get #options(): { readonly timeoutMs: number; readonly env: NodeJS.ProcessEnv } {
    return { timeoutMs: commandTimeoutMs, env: this.#environment };
  }

  #command(args: readonly string[]): [string, string[]] {
    return [join(unpacked, 'usr/bin/firewall-cmd'), [...args]];
  }

  #spawn(program: string, args: readonly string[]): void {
    const env = this.#environment;
    this.#stack.use(startProcess(...this.#namespace.enter(program, args), { env }));
  }
}
