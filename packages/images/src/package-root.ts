// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Contents of Debian packages of one architecture, unpacked and not installed. No script of a package runs. */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join, sep } from 'node:path';
import { linksOf } from './elf.ts';
import type { Architecture } from './lock.ts';
import type { DebianOrigin, TarFile } from './tar.ts';

/** Directory names of GNU for what differs by architecture. */
export const triplets: Readonly<Record<Architecture, string>> = {
  amd64: 'x86_64-linux-gnu',
  arm64: 'aarch64-linux-gnu',
};

const originFormat = '--showformat=${Package}\t${Version}\t${source:Package}';

interface Unpacked {
  readonly directory: string;
  readonly origin: DebianOrigin;
}

interface Found {
  /** Path on this machine. */
  readonly path: string;
  readonly origin: DebianOrigin;
}

export class PackageRoot {
  readonly triplet: string;
  readonly #packages: readonly Unpacked[];

  /** Unpacks into `directory`. `archives`: paths of .deb files. */
  constructor(archives: readonly string[], architecture: Architecture, directory: string) {
    this.triplet = triplets[architecture];
    this.#packages = archives.map((archive, index) => {
      const target = join(directory, `${index}`);
      mkdirSync(target, { recursive: true });
      execFileSync('dpkg-deb', ['--extract', archive, target]);
      return { directory: target, origin: originOf(archive) };
    });
  }

  /** Path on this machine. @throws Error when no package has it */
  pathOf(path: string): string {
    return this.#find([path]).path;
  }

  /** Path of a shared library on this machine. @throws Error when no package has it */
  libraryPath(name: string): string {
    return this.#library(name).path;
  }

  /** Package that has the file. @throws Error when none has it */
  originOf(path: string): DebianOrigin {
    return this.#find([path]).origin;
  }

  /** Names in a directory of any of the packages. */
  namesIn(directory: string): readonly string[] {
    const names = this.#packages.flatMap((each) => {
      const path = join(each.directory, directory);
      return existsSync(path) ? readdirSync(path) : [];
    });
    return names.toSorted();
  }

  /** A file of a package, at the same path in the image. */
  file(path: string, mode: number): TarFile {
    const found = this.#find([path]);
    return { path, mode, content: readFileSync(found.path), origin: found.origin };
  }

  /** A program of a package with the libraries that it loads. */
  program(path: string): readonly TarFile[] {
    return [this.file(path, 0o755), ...this.librariesOf(this.pathOf(path))];
  }

  /** Shared libraries that a program or library of this machine loads, with the loader and what they load. */
  librariesOf(program: string): readonly TarFile[] {
    const files = new Map<string, TarFile>();
    const add = (path: string, { path: from, origin }: Found): void => {
      files.set(path, { path, mode: 0o755, content: readFileSync(from), origin });
    };
    const pending = [program];
    for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
      const { interpreter, needed } = linksOf(at);
      if (interpreter !== null) add(interpreter.slice(1), this.#library(basename(interpreter)));
      for (const name of needed) {
        const path = `lib/${this.triplet}/${name}`;
        // The loader is in memory before its name is looked up.
        if (files.has(path) || name.startsWith('ld-linux')) continue;
        const found = this.#library(name);
        add(path, found);
        pending.push(found.path);
      }
    }
    return [...files.values()];
  }

  #library(name: string): Found {
    const directories = ['lib', 'usr/lib'].map((each) => join(each, this.triplet));
    return this.#find(directories.map((each) => join(each, name)));
  }

  #find(paths: readonly string[]): Found {
    for (const { directory, origin } of this.#packages) {
      for (const path of paths) {
        if (!existsSync(join(directory, path))) continue;
        const real = realpathSync(join(directory, path));
        if (!real.startsWith(realpathSync(directory) + sep)) {
          throw new Error(`${path} is a link out of its package`);
        }
        return { path: real, origin };
      }
    }
    const [first = ''] = paths;
    throw new Error(
      `no package of the image has ${basename(first)} (${dirname(first)}): add it to imagePackages`,
    );
  }
}

function originOf(archive: string): DebianOrigin {
  return parseOrigin(
    execFileSync('dpkg-deb', [originFormat, '--show', archive], { encoding: 'utf8' }),
  );
}

/** A package that is installed on this machine. @throws Error when it is not */
export function installedOrigin(name: string, architecture: Architecture): DebianOrigin {
  const args = [originFormat, '--show', `${name}:${architecture}`];
  return parseOrigin(execFileSync('dpkg-query', args, { encoding: 'utf8' }));
}

function parseOrigin(text: string): DebianOrigin {
  const [name = '', version = '', source = ''] = text.trim().split('\t');
  return { kind: 'debian', name, version, source };
}
