// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The lock of the images, packaging/images.lock: each input that is no npm package of pnpm-lock.yaml, with its version and the
 * SHA-256 of its file. One input a line: KIND ARCHITECTURE NAME VERSION SHA-256.
 */

export const lockPath = 'packaging/images.lock';
export const renewal = './run images --update-lock';

/** Architectures of images, as Debian and OCI name them. */
export const architectures = ['amd64', 'arm64'] as const;
export type Architecture = (typeof architectures)[number];

/**
 * `package`: Debian package of which the image has files. `node`: npm package with the program Node.js. `tool`: Debian package of a
 * machine of this architecture that compiles.
 */
const kinds = ['node', 'package', 'tool'] as const;
type Kind = (typeof kinds)[number];

/** One file of a registry. */
export interface Input {
  readonly name: string;
  readonly version: string;
  readonly sha256: string;
}

export interface LockedInput extends Input {
  readonly kind: Kind;
  readonly architecture: Architecture;
}

export interface Lock {
  /** ID and VERSION_ID of os-release(5), such as debian-12. */
  readonly distribution: string;
  readonly inputs: readonly LockedInput[];
}

/** @throws Error that names the line */
export function parseLock(text: string): Lock {
  let distribution = '';
  const inputs: LockedInput[] = [];
  const seen = new Set<string>();
  for (const [index, line] of text.split('\n').entries()) {
    if (line === '' || line.startsWith('#')) continue;
    const wrong = (what: string): Error =>
      new Error(`${lockPath}:${index + 1}: ${what}; renew it: ${renewal}`);
    const words = line.split(' ');
    if (words[0] === 'distribution' && words.length === 2) {
      distribution = words[1] ?? '';
      continue;
    }
    const [word, of, name = '', version = '', sha256 = ''] = words;
    const kind = kinds.find((each) => each === word);
    const architecture = architectures.find((each) => each === of);
    if (kind === undefined) throw wrong(`"${word}" is not one of ${kinds.join(', ')}`);
    if (architecture === undefined) {
      throw wrong(`"${of}" is not one of ${architectures.join(', ')}`);
    }
    if (words.length !== 5) throw wrong(`has ${words.length} words, must have 5`);
    if (!/^[0-9a-f]{64}$/.test(sha256)) throw wrong(`"${sha256}" is no SHA-256`);
    const key = `${kind} ${architecture} ${name}`;
    if (seen.has(key)) throw wrong(`${key} comes twice`);
    seen.add(key);
    inputs.push({ kind, architecture, name, version, sha256 });
  }
  if (distribution === '') throw new Error(`${lockPath} has no distribution; renew it: ${renewal}`);
  return { distribution, inputs };
}

export function formatLock({ distribution, inputs }: Lock): string {
  const lines = inputs.map(({ kind, architecture, name, version, sha256 }) =>
    [kind, architecture, name, version, sha256].join(' '),
  );
  return `${[
    `# Inputs of the images, with the SHA-256 of each file. Written by ${renewal}: do not edit.`,
    '# KIND ARCHITECTURE NAME VERSION SHA-256',
    `distribution ${distribution}`,
    ...lines.toSorted(),
  ].join('\n')}\n`;
}

export function inputsOf(
  { inputs }: Lock,
  kind: Kind,
  architecture: Architecture,
): readonly LockedInput[] {
  return inputs.filter((each) => each.kind === kind && each.architecture === architecture);
}
