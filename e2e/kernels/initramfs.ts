// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The guest's first file system: busybox, the modules of 9p, and an init that makes this machine's file system its own,
 * read-only, with file systems in memory where programs write. So the guest runs the very files that are built here.
 */

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Kernel } from './archive.ts';
import { type ArchiveEntry, newcArchive } from './cpio.ts';

/** Modules that mount a file system of the machine under the emulator. */
const bootModules = ['virtio_pci', '9pnet_virtio', '9p'] as const;
/** Modules for the stages of tests; the kernel asks for all else itself. */
const stageModules = [
  'veth',
  'bridge',
  'br_netfilter',
  'vxlan',
  'nf_tables',
  'nf_conntrack',
] as const;
const moduleBytesMax = 64 << 20;

export interface GuestPaths {
  /** The repository, which may lie where the guest mounts a file system in memory. */
  readonly repository: string;
  readonly node: string;
}

/** Mount tags of the shared directories. */
export const tags = { root: 'root', repository: 'repository', results: 'results' } as const;
/** Where the guest finds them. */
export const resultsDirectory = '/run/results';

export function initramfs(kernel: Kernel, paths: GuestPaths): Uint8Array {
  const modules = moduleFiles(kernel, bootModules);
  const entries: ArchiveEntry[] = [
    { name: 'bin', mode: 0o40755 },
    { name: 'modules', mode: 0o40755 },
    { name: 'proc', mode: 0o40755 },
    { name: 'dev', mode: 0o40755 },
    { name: 'host', mode: 0o40755 },
    { name: 'bin/busybox', mode: 0o100755, data: readFileSync('/bin/busybox') },
    ...modules.map((file, i) => ({
      name: `modules/${String(i).padStart(3, '0')}.ko`,
      mode: 0o100644,
      data: decompressed(file),
    })),
    { name: 'init', mode: 0o100755, data: Buffer.from(init(paths)) },
    { name: 'modprobe', mode: 0o100755, data: Buffer.from(modprobe(kernel)) },
  ];
  return gzipSync(newcArchive(entries), { level: 1 });
}

/** The modules and what they need, in the order to be inserted; what is built in is left out. */
function moduleFiles(kernel: Kernel, names: readonly string[]): string[] {
  const directory = join(kernel.root, 'lib/modules', kernel.release);
  const needs = new Map<string, string[]>();
  for (const line of readFileSync(join(directory, 'modules.dep'), 'utf8').split('\n')) {
    const [path = '', rest = ''] = line.split(':');
    needs.set(path, rest.trim().split(' ').filter(Boolean));
  }
  const files: string[] = [];
  for (const name of names) {
    const path = [...needs.keys()].find((key) => new RegExp(`/${name}\\.ko(\\.|$)`).test(key));
    if (path === undefined) continue;
    for (const file of [...(needs.get(path) ?? []).toReversed(), path]) {
      if (!files.includes(file)) files.push(file);
    }
  }
  return files.map((file) => join(directory, file));
}

function decompressed(path: string): Uint8Array {
  const program = path.endsWith('.xz') ? 'xz' : path.endsWith('.zst') ? 'zstd' : null;
  if (program === null) return readFileSync(path);
  return execFileSync(program, ['-dcq', path], { maxBuffer: moduleBytesMax });
}

/** Program that the kernel runs for a module that is missing, in the first file system. */
function modprobe(kernel: Kernel): string {
  return `#!/bin/busybox sh\nexec /bin/chroot /host /sbin/modprobe -d "${kernel.root}" "$@"\n`;
}

function init({ repository, node }: GuestPaths): string {
  const guestMain = join(repository, 'e2e/kernels/guest-main.ts');
  const memory = ['/host/tmp', '/host/var/tmp', '/host/run'];
  // only what is there can be mounted on: the root is read-only
  if (existsSync('/dev/shm')) memory.push('/host/dev/shm');
  const nineP = 'trans=virtio,version=9p2000.L,msize=524288';
  return `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
for module in /modules/*.ko; do insmod "$module" || echo "kernels: insmod $module failed"; done
mount -t 9p -o ${nineP},cache=loose,ro ${tags.root} /host || echo "kernels: no root"
mount -t proc proc /host/proc
mount -t sysfs sysfs /host/sys
mount -t devtmpfs dev /host/dev
mkdir -p /host/dev/pts /host/dev/shm
mount -t devpts devpts /host/dev/pts
for directory in ${memory.join(' ')}; do mount -t tmpfs tmpfs "$directory"; done
chmod 1777 /host/tmp /host/var/tmp
mkdir -p "/host${repository}" /host${resultsDirectory}
mount -t 9p -o ${nineP},cache=loose,ro ${tags.repository} "/host${repository}"
mount -t 9p -o ${nineP} ${tags.results} /host${resultsDirectory}
mount -t bpf bpf /host/sys/fs/bpf
mount -t cgroup2 cgroup2 /host/sys/fs/cgroup
echo /modprobe >/proc/sys/kernel/modprobe
for module in ${stageModules.join(' ')}; do /modprobe "$module" || echo "kernels: no module $module"; done
ip link set lo up
echo "kernels: booted $(uname -r) after $(cut -d' ' -f1 /proc/uptime) s"
chroot /host /usr/bin/env -i PATH="${join(repository, '.tools/bin')}:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/tmp \\
	/bin/sh -c 'cd "${repository}" && exec "${node}" --conditions=@tandem/source --disable-warning=ExperimentalWarning "${guestMain}" ${resultsDirectory}'
echo "kernels: ended with $?"
sync
poweroff -f
`;
}
