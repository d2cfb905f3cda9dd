// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Contents of the images, as CycloneDX 1.6: Debian packages by the files that were taken from them, npm packages by what the
 * bundler put into each file, static libraries by the programs that have them, and our own. Each component names its files, and
 * each file has one at least. Nothing in it changes between two runs.
 */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DebianOrigin, TarFile } from './tar.ts';

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
  /** ID and VERSION_ID of os-release(5), such as debian-12. */
  readonly distribution: string;
  /** Files of all layers. */
  readonly files: readonly TarFile[];
}

export function sbomOf(options: SbomOptions): object {
  const { name, version, architecture, files } = options;
  const own: Component = {
    ...{ type: 'application', name: 'tandem', version, licence: 'Apache-2.0' },
    purl: `pkg:generic/tandem@${version}`,
  };
  const contents = files.filter(({ content }) => content !== null);
  const found = new Map<string, { component: Component; paths: Set<string> }>();
  for (const file of contents) {
    for (const component of componentsOf(file, own, options)) {
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
  { origin }: TarFile,
  own: Component,
  options: SbomOptions,
): readonly Component[] {
  if (origin === undefined) return [own];
  if (origin.kind === 'debian') return [debianPackage(origin, options)];
  if (origin.kind === 'linked') {
    return [own, ...origin.libraries.map((each) => debianPackage(each, options))];
  }
  if (origin.kind === 'npm') return [npmComponent(origin.name, origin.version, origin.licence)];
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
  return npmComponent(name, version, licence);
}

function npmComponent(name: string, version: string, licence: string): Component {
  const purl = `pkg:npm/${name.replace('@', '%40')}@${version}`;
  return { type: 'library', name, version, purl, licence };
}

function debianPackage({ name, version, source }: DebianOrigin, options: SbomOptions): Component {
  const { architecture, distribution } = options;
  const qualifiers = `arch=${architecture}&distro=${distribution}&upstream=${source}`;
  const vendor = distribution.split('-')[0] ?? '';
  const purl = `pkg:deb/${vendor}/${name}@${encodeURIComponent(version)}?${qualifiers}`;
  return { type: 'library', name, version, purl, licence: '' };
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
