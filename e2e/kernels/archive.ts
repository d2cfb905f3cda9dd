// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Kernel packages of Debian, by an apt of our own beside the machine's: the mirror is the one that the machine's
 * apt is configured with, the suites are those of kernels.ts. apt checks signatures and checksums. Nothing is
 * installed; what was unpacked is used again while the suite has no newer package.
 */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { KernelSpec } from './kernels.ts';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
const outputBytesMax = 64 << 20;

export interface Kernel {
  /** Release of the kernel in the package, as `uname -r` says it: "6.12.95+deb13-amd64". */
  readonly release: string;
  readonly version: string;
  readonly image: string;
  /** The directory that has lib/modules, for `modprobe -d`. */
  readonly root: string;
}

export class Archive {
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** @throws Error when no Debian mirror is configured or it has no such suite. */
  static open(directory: string, suites: readonly string[]): Archive {
    const archive = new Archive(directory);
    for (const part of ['state/lists/partial', 'cache/archives/partial']) {
      mkdirSync(join(directory, part), { recursive: true });
    }
    const mirror = configuredMirror();
    writeFileSync(
      join(directory, 'sources.list'),
      suites
        .map((suite) => `deb [arch=amd64 signed-by=${keyring}] ${mirror} ${suite} main\n`)
        .join(''),
    );
    writeFileSync(
      join(directory, 'apt.conf'),
      [
        `Dir::State "${directory}/state";`,
        `Dir::Cache "${directory}/cache";`,
        `Dir::Etc::sourcelist "${directory}/sources.list";`,
        'Dir::Etc::sourceparts "-";',
        // the directory may be one that only root may enter
        'APT::Sandbox::User "root";',
        'APT::Architecture "amd64";',
        'Acquire::Languages "none";',
        '',
      ].join('\n'),
    );
    archive.#apt('apt-get', ['update', '-qq']);
    return archive;
  }

  /** The newest kernel of a line: fetched and unpacked unless it was. @throws Error when the suite has none. */
  kernel(spec: KernelSpec): Kernel {
    const release = this.#newest(spec);
    const packages = ['image', 'binary', 'modules', 'base']
      .map((part) => `linux-${part}-${release}`)
      .filter((name) => this.#versionOf(name, spec.suite) !== null);
    const version = this.#versionOf(`linux-image-${release}`, spec.suite) ?? '';
    const root = join(this.#directory, spec.line, `${release}_${version}`);
    if (!existsSync(root)) this.#unpack(packages, spec, root);
    const images = [`boot/vmlinuz-${release}`, `lib/modules/${release}/vmlinuz`];
    const image = images.map((path) => join(root, path)).find((path) => existsSync(path));
    if (image === undefined) throw new Error(`${packages.join(', ')}: no vmlinuz in them`);
    return { release, version, root, image };
  }

  #newest(spec: KernelSpec): string {
    const line = spec.line.replace('.', '\\.');
    const names = this.#apt('apt-cache', [
      'search',
      '--names-only',
      `^linux-image-${line}\\.[0-9.]*([+-][^-]*)?-amd64$`,
    ])
      .split('\n')
      .map((row) => row.split(' ')[0] ?? '')
      .filter((name) => name !== '' && this.#versionOf(name, spec.suite) !== null)
      .toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    const newest = names.at(-1);
    if (newest === undefined) throw new Error(`${spec.suite} has no kernel ${spec.line}`);
    return newest.slice('linux-image-'.length);
  }

  #versionOf(name: string, suite: string): string | null {
    for (const row of this.#apt('apt-cache', ['madison', name]).split('\n')) {
      const [, version = '', source = ''] = row.split('|').map((cell) => cell.trim());
      if (source.includes(` ${suite}/main `)) return version;
    }
    return null;
  }

  #unpack(packages: readonly string[], spec: KernelSpec, root: string): void {
    const line = join(this.#directory, spec.line);
    rmSync(line, { recursive: true, force: true });
    const making = join(line, 'making');
    mkdirSync(making, { recursive: true });
    this.#apt(
      'apt-get',
      ['download', '-qq', ...packages.map((name) => `${name}/${spec.suite}`)],
      line,
    );
    for (const file of readdirSync(line).filter((name) => name.endsWith('.deb'))) {
      execFileSync('dpkg-deb', ['-x', join(line, file), making]);
      rmSync(join(line, file));
    }
    const modules = existsSync(join(making, 'usr/lib/modules')) ? 'usr/lib/modules' : 'lib/modules';
    if (modules.startsWith('usr')) {
      mkdirSync(join(making, 'lib'), { recursive: true });
      renameSync(join(making, modules), join(making, 'lib/modules'));
    }
    const [release = ''] = readdirSync(join(making, 'lib/modules'));
    execFileSync('depmod', ['-b', making, release]);
    renameSync(making, root);
  }

  #apt(program: string, args: readonly string[], cwd = this.#directory): string {
    return execFileSync(program, args, {
      cwd,
      encoding: 'utf8',
      maxBuffer: outputBytesMax,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, APT_CONFIG: join(this.#directory, 'apt.conf') },
    });
  }
}

/** Where this machine's apt gets Debian from. */
function configuredMirror(): string {
  const targets = execFileSync(
    'apt-get',
    ['indextargets', '--format', '$(ORIGIN) $(LABEL) $(REPO_URI)'],
    {
      encoding: 'utf8',
      maxBuffer: outputBytesMax,
    },
  );
  const mirror = /^Debian Debian (\S+)$/m.exec(targets)?.[1];
  if (mirror === undefined || !existsSync(keyring)) {
    throw new Error("apt has no mirror of Debian: the kernels are Debian's packages");
  }
  return mirror;
}
