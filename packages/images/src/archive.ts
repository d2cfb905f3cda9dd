// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Debian packages of one architecture, by an apt beside the machine's: sources, keys, pins and proxies are those of the machine, state
 * and cache are a directory of its own, and nothing is installed.
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
  /** These packages and all that they depend on, each in the version that apt would install. @throws Error when the archive lacks one */
  closureOf(names: readonly string[]): readonly Input[];
  /** Writes each to `directory`, as NAME_*.deb. apt verifies signatures and hashes. */
  download(inputs: readonly Input[], directory: string): void;
}

/** Called with why the indices cannot be updated: those that the machine has are taken then. Null: opening fails. */
export type OnStale = ((reason: string) => void) | null;

/** @throws Error when the archive is not reachable or has nothing of this architecture */
export function openArchive(architecture: Architecture, onStale: OnStale = null): Archive {
  const directory = mkdtempSync(join(tmpdir(), 'tandem-apt-'));
  const apt = (program: string, args: readonly string[], cwd = directory): string =>
    // APT_CONFIG is read before the machine's configuration, which wins then; this file is read after it.
    execFileSync(program, ['--config-file', join(directory, 'apt.conf'), ...args], {
      cwd,
      encoding: 'utf8',
      maxBuffer: outputBytesMax,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C' },
    });
  const close = (): void => rmSync(directory, { recursive: true, force: true });
  try {
    for (const part of ['state/lists/partial', 'cache/archives/partial']) {
      mkdirSync(join(directory, part), { recursive: true });
    }
    writeFileSync(join(directory, 'status'), '');
    const configure = (state: string): void =>
      writeFileSync(join(directory, 'apt.conf'), state + configuration(directory, architecture));
    configure(ownState(directory));
    try {
      // Without --error-on=any an index that cannot be fetched is a warning, and packages seem to be gone.
      apt('apt-get', ['update', '-qq', '--error-on=any']);
    } catch (error) {
      const reason = failure(`apt-get update for ${architecture} failed`, error);
      if (onStale === null) {
        const fix = `each source in /etc/apt must be reachable and have ${architecture}: disable what does not`;
        throw new Error(`${reason.message}\n${fix}`, { cause: error });
      }
      onStale(reason.message);
      configure('');
    }
  } catch (error) {
    close();
    throw error;
  }
  const versionsOf = (names: readonly string[]): readonly Input[] => {
    // Its exit code is that of a failure where one name is unknown: it is asked for known names alone.
    const known = new Set(apt('apt-cache', ['pkgnames']).split('\n'));
    const asked = names.filter((name) => known.has(name));
    return asked.length === 0 ? [] : parseStanzas(apt('apt-cache', ['show', ...asked]));
  };
  return {
    versionsOf,
    closureOf: (names) => {
      let text: string;
      try {
        text = apt('apt-get', ['install', '--simulate', '--no-install-recommends', ...names]);
      } catch (error) {
        throw failure(`apt-get cannot resolve ${names.join(', ')} for ${architecture}`, error);
      }
      const chosen = parseSimulation(text);
      const versions = versionsOf(chosen.map(({ name }) => name));
      return chosen.map(({ name, version }) => {
        const found = versions.find((each) => each.name === name && each.version === version);
        if (found === undefined) throw new Error(`the archive has no ${name} ${version}`);
        return found;
      });
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

/** Indices that are not the machine's. A tree is cleared first, because the machine may have set what is below it. */
function ownState(directory: string): string {
  return `#clear Dir::State;
Dir::State "${directory}/state";
Dir::State::lists "lists/";
Dir::State::cdroms "cdroms.list";
`;
}

/** Lists of the machine's are cleared first: setting a value of them adds to what is there. */
function configuration(directory: string, architecture: Architecture): string {
  return `#clear Dir::Cache;
#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::Languages;
Dir::State::status "${directory}/status";
Dir::State::extended_states "${directory}/extended_states";
Dir::Cache "${directory}/cache";
Dir::Cache::archives "archives/";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
APT::Architecture "${architecture}";
APT::Architectures { "${architecture}"; };
APT::Cache::AllVersions "true";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
`;
}

/** Names and versions that `apt-get install --simulate` would install. */
export function parseSimulation(text: string): readonly Omit<Input, 'sha256'>[] {
  return [...text.matchAll(/^Inst (\S+) (?:\[\S+\] )?\((\S+) /gm)].map(
    ([, name = '', version = '']) => ({ name, version }),
  );
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
