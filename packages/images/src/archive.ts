// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Debian packages of one architecture, by an apt beside the machine's: sources and keys are those of the machine, state and cache are
 * a directory of its own, and nothing is installed.
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Architecture, Input } from './lock.ts';

const outputBytesMax = 256 << 20;

export interface Archive extends Disposable {
  /** Every version of these packages that the archive has, the newest of a package first. Unknown names are left out. */
  versionsOf(names: readonly string[]): readonly Input[];
  /** Names of these packages and of all that they depend on. @throws Error when the archive lacks one */
  closureOf(names: readonly string[]): readonly string[];
  /** Writes each to `directory`, as NAME_*.deb. apt verifies signatures and hashes. */
  download(inputs: readonly Input[], directory: string): void;
}

/** @throws Error when the archive is not reachable or has nothing of this architecture */
export function openArchive(architecture: Architecture): Archive {
  const directory = mkdtempSync(join(tmpdir(), 'tandem-apt-'));
  const apt = (program: string, args: readonly string[], cwd = directory): string =>
    execFileSync(program, args, {
      cwd,
      encoding: 'utf8',
      maxBuffer: outputBytesMax,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C', APT_CONFIG: join(directory, 'apt.conf') },
    });
  const close = (): void => rmSync(directory, { recursive: true, force: true });
  try {
    for (const part of ['state/lists/partial', 'cache/archives/partial']) {
      mkdirSync(join(directory, part), { recursive: true });
    }
    writeFileSync(join(directory, 'status'), '');
    writeFileSync(join(directory, 'apt.conf'), configuration(directory, architecture));
    // Without --error-on=any an index that cannot be fetched is a warning, and packages seem to be gone.
    apt('apt-get', ['update', '-qq', '--error-on=any']);
  } catch (error) {
    close();
    throw failure(`apt-get update for ${architecture} failed`, error);
  }
  return {
    versionsOf: (names) => {
      // Its exit code is that of a failure where one name is unknown: it is asked for known names alone.
      const known = new Set(apt('apt-cache', ['pkgnames']).split('\n'));
      const asked = names.filter((name) => known.has(name));
      return asked.length === 0 ? [] : parseStanzas(apt('apt-cache', ['show', ...asked]));
    },
    closureOf: (names) => {
      try {
        const text = apt('apt-get', ['install', '--simulate', '--no-install-recommends', ...names]);
        return [...text.matchAll(/^Inst (\S+) /gm)].map(([, name = '']) => name);
      } catch (error) {
        throw failure(`apt-get cannot resolve ${names.join(', ')} for ${architecture}`, error);
      }
    },
    download: (inputs, to) => {
      const wanted = inputs.map(({ name, version }) => `${name}=${version}`);
      try {
        apt('apt-get', ['download', '-qq', ...wanted], to);
      } catch (error) {
        throw failure(`apt-get download for ${architecture} failed`, error);
      }
    },
    [Symbol.dispose]: close,
  };
}

function configuration(directory: string, architecture: Architecture): string {
  return `Dir::State "${directory}/state";
Dir::State::status "${directory}/status";
Dir::Cache "${directory}/cache";
APT::Architecture "${architecture}";
APT::Architectures "${architecture}";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
`;
}

/** Stanzas of a Packages index. */
export function parseStanzas(text: string): readonly Input[] {
  return text
    .split(/\n\n+/)
    .filter((stanza) => stanza.trim() !== '')
    .map((stanza) => {
      const field = (name: string): string =>
        new RegExp(`^${name}: (.*)$`, 'm').exec(stanza)?.[1] ?? '';
      return { name: field('Package'), version: field('Version'), sha256: field('SHA256') };
    });
}

/** With what the program wrote. */
function failure(what: string, cause: unknown): Error {
  const { stderr = '', message } = cause as Error & { readonly stderr?: string };
  return new Error(`${what}: ${(stderr === '' ? message : stderr).trim()}`, { cause });
}
