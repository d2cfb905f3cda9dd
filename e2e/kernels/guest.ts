// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One boot in emulation (no KVM: the machine may be a virtual one itself). The guest has this machine's files,
 * read-only, and no network. What it says on its console goes to a file; lines of ours to `onLine`.
 */

import { spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Kernel } from './archive.ts';
import { type GuestPaths, initramfs, tags } from './initramfs.ts';

const cpus = 2;
const memoryMiB = 1536;
/** Lines of the init and of guest-main.ts begin with it. */
const linePrefix = 'kernels: ';

export interface Boot {
  readonly kernel: Kernel;
  readonly paths: GuestPaths;
  /** More words of the kernel's command line. */
  readonly parameters: string;
  /** Made anew: initramfs, console.log and what the guest writes. */
  readonly directory: string;
  readonly timeoutMs: number;
  readonly onLine: (line: string) => void;
}

/** Runs until the guest has powered off; `ended`: it did so by itself. */
export async function boot(
  spec: Boot,
): Promise<{ readonly ended: boolean; readonly seconds: number }> {
  const { kernel, paths, directory } = spec;
  const results = join(directory, 'results');
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(results, { recursive: true });
  const initrd = join(directory, 'initramfs.gz');
  writeFileSync(initrd, initramfs(kernel, paths));
  const share = (tag: string, path: string, mode: string): string[] => [
    '-virtfs',
    `local,path=${path},mount_tag=${tag},security_model=none,multidevs=remap${mode}`,
  ];
  const started = performance.now();
  const child = spawn(
    'qemu-system-x86_64',
    [
      ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', `${cpus}`, '-m', `${memoryMiB}`],
      ...['-nodefaults', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
      ...share(tags.root, '/', ',readonly=on'),
      ...share(tags.repository, paths.repository, ',readonly=on'),
      ...share(tags.results, results, ''),
      ...['-kernel', kernel.image, '-initrd', initrd],
      ...['-append', `console=ttyS0 panic=-1 quiet loglevel=4 ${spec.parameters}`],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const end = (): void => {
    child.kill('SIGKILL');
  };
  const timer = setTimeout(end, spec.timeoutMs);
  const stop = (): void => {
    end();
    process.exit(1);
  };
  process.once('exit', end).once('SIGINT', stop).once('SIGTERM', stop);
  const log = createWriteStream(join(directory, 'console.log'));
  child.stderr.pipe(log, { end: false });
  for await (const line of createInterface({ input: child.stdout })) {
    log.write(`${line}\n`);
    const at = line.indexOf(linePrefix);
    if (at >= 0) spec.onLine(line.slice(at + linePrefix.length).trimEnd());
  }
  if (child.exitCode === null && child.signalCode === null) {
    await new Promise((resolve) => child.once('exit', resolve));
  }
  clearTimeout(timer);
  process.off('exit', end).off('SIGINT', stop).off('SIGTERM', stop);
  log.end();
  rmSync(initrd);
  return { ended: child.exitCode === 0, seconds: (performance.now() - started) / 1000 };
}
