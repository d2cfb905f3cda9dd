// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Contents of the images, as CycloneDX 1.6: Debian packages by the files that were taken from them, npm packages by what the
 * bundler put into each file, and our own. Each component names its files, and each file has one. Nothing in it changes
 * between two runs.
 */

import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { TarFile } from './tar.ts';

interface Component {
  readonly type: 'library' | 'application';
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  /** SPDX expression; '': not known. */
  readonly licence: string;
}

export interface SbomOptions {
  /** Subject of the document, such as tandem/agent. */
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  /** Files of all layers. */
  readonly files: readonly TarFile[];
}

/** @throws Error naming a file of no package */
export function sbomOf({ name, version, architecture, files }: SbomOptions): object {
  const own: Component = {
    ...{ type: 'application', name: 'tandem', version, licence: 'Apache-2.0' },
    purl: `pkg:generic/tandem@${version}`,
  };
  const contents = files.filter(({ content }) => content !== null);
  const debian = debianPackages(contents, architecture);
  const found = new Map<string, { component: Component; paths: Set<string> }>();
  for (const file of contents) {
    for (const component of componentsOf(file, own, debian)) {
      const known = found.get(component.purl) ?? { component, paths: new Set() };
      known.paths.add(`/${file.path}`);
      found.set(component.purl, known);
    }
  }
  const components = [...found.values()]
    .toSorted((left, right) => (left.component.purl < right.component.purl ? -1 : 1))
    .map(({ component, paths }) => described(component, paths));
  return {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    serialNumber: `urn:uuid:${uuidOf(contents)}`,
    version: 1,
    metadata: {
      component: {
        ...{ type: 'container', 'bom-ref': name, name, version },
        properties: [{ name: 'tandem:architecture', value: architecture }],
      },
    },
    components,
    dependencies: [{ ref: name, dependsOn: components.map((each) => each['bom-ref']) }],
  };
}

function described({ licence, ...component }: Component, paths: ReadonlySet<string>) {
  const isId = /^[A-Za-z0-9.+-]+$/.test(licence);
  const choice = isId ? { license: { id: licence } } : { expression: licence };
  return {
    ...component,
    'bom-ref': component.purl,
    ...(licence === '' ? {} : { licenses: [choice] }),
    evidence: { occurrences: [...paths].toSorted().map((location) => ({ location })) },
  };
}

function componentsOf(
  { path, origin }: TarFile,
  own: Component,
  debian: ReadonlyMap<string, Component>,
): readonly Component[] {
  if (origin === undefined) return [own];
  if (origin.kind === 'machine') {
    const found = debian.get(origin.path) ?? programOf(origin.path);
    if (found === null) throw new Error(`${path}: ${origin.path} is of no package`);
    return [found];
  }
  return origin.directories.map((directory) => npmPackage(directory) ?? own);
}

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly license?: string;
  readonly private?: boolean;
}

/** Null: one of ours. */
function npmPackage(directory: string): Component | null {
  const manifest = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as Manifest;
  if (manifest.name.startsWith('@tandem/') || manifest.private === true) return null;
  const { name, version, license: licence = '' } = manifest;
  const purl = `pkg:npm/${name.replace('@', '%40')}@${version}`;
  return { type: 'library', name, version, purl, licence };
}

/** Node.js, which is no package of the distribution: as npm has it, or as it says itself. */
function programOf(path: string): Component | null {
  for (let at = dirname(path); at !== dirname(at); at = dirname(at)) {
    if (existsSync(join(at, 'package.json'))) return npmPackage(at);
  }
  if (!path.endsWith('/node')) return null;
  const version = process.versions.node;
  const purl = `pkg:generic/node@${version}`;
  return { type: 'application', name: 'node', version, purl, licence: 'MIT' };
}

/** By the path of the machine. Files that no package has are left out. */
function debianPackages(
  files: readonly TarFile[],
  architecture: string,
): ReadonlyMap<string, Component> {
  const paths = files.flatMap(({ origin }) => (origin?.kind === 'machine' ? [origin.path] : []));
  const owners = ownersOf([...new Set(paths)]);
  if (owners.size === 0) return new Map();
  const { id, versionId } = distribution();
  const format = '${binary:Package}\t${Package}\t${Version}\t${source:Package}\n';
  const names = [...new Set(owners.values())];
  const text = execFileSync('dpkg-query', ['-W', `-f=${format}`, ...names], { encoding: 'utf8' });
  const components = new Map<string, Component>();
  for (const line of text.trim().split('\n')) {
    const [binary = '', name = '', version = '', source = ''] = line.split('\t');
    const qualifiers = `arch=${architecture}&distro=${id}-${versionId}&upstream=${source}`;
    const purl = `pkg:deb/${id}/${name}@${encodeURIComponent(version)}?${qualifiers}`;
    components.set(binary, { type: 'library', name, version, purl, licence: '' });
    components.set(name, { type: 'library', name, version, purl, licence: '' });
  }
  return new Map(
    [...owners].flatMap(([path, owner]) => {
      const component = components.get(owner);
      return component === undefined ? [] : [[path, component] as const];
    }),
  );
}

/**
 * By the path: the package, with its architecture where there may be several. Where /lib is a link to /usr/lib the path in the
 * package is without /usr. What no package has is left out.
 */
function ownersOf(paths: readonly string[]): ReadonlyMap<string, string> {
  const withoutUsr = (path: string): string => path.replace(/^\/usr\//, '/');
  const asked = [...paths, ...paths.map(withoutUsr)];
  // Its exit code is 1 when one is of no package; it prints the others.
  const { stdout } = spawnSync('dpkg-query', ['-S', ...asked], { encoding: 'utf8' });
  const found = new Map(
    [...stdout.matchAll(/^([^:,\s]+(?::[^:,\s]+)?)(?:, [^/]*)?: (\/.*)$/gm)].map(
      ([, owner = '', path = '']) => [path, owner] as const,
    ),
  );
  return new Map(
    paths.flatMap((path) => {
      const owner = found.get(path) ?? found.get(withoutUsr(path));
      return owner === undefined ? [] : [[path, owner] as const];
    }),
  );
}

function distribution(): { readonly id: string; readonly versionId: string } {
  const text = readFileSync('/etc/os-release', 'utf8');
  const valueOf = (name: string): string =>
    new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(text)?.[1] ?? 'unknown';
  return { id: valueOf('ID'), versionId: valueOf('VERSION_ID') };
}

/** UUID made of the contents of the image (RFC 9562, version 8). */
function uuidOf(files: readonly TarFile[]): string {
  const hash = createHash('sha256');
  for (const { path, content } of files.toSorted((a, b) => (a.path < b.path ? -1 : 1))) {
    hash.update(`${path}\0`).update(content ?? '');
  }
  const hex = hash.digest('hex').slice(0, 32).split('');
  hex[12] = '8';
  hex[16] = 'a';
  return hex.join('').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
