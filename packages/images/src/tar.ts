// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Tar archives that depend on their contents alone: sorted, without times, owned by root. Format: POSIX.1-2001 (pax), of which only
 * long paths and extended attributes are used.
 */

export interface TarFile {
  /** Without a leading slash. */
  readonly path: string;
  /** Permission bits. */
  readonly mode: number;
  /** Null: a directory. */
  readonly content: Uint8Array | null;
  /** Target of a symbolic link. */
  readonly link?: string;
  /** Value of `security.capability`, struct vfs_cap_data of linux/capability.h. */
  readonly capability?: Uint8Array;
  /** Where it is from, for the SBOM; nothing of it is in the archive. */
  readonly origin?: Origin;
}

export interface DebianOrigin {
  readonly kind: 'debian';
  readonly name: string;
  readonly version: string;
  /** Name of the source package. */
  readonly source: string;
}

/** A package of Debian or npm that has the file, the packages that were bundled into it, or those that were linked into a program of ours. */
export type Origin =
  | DebianOrigin
  | { readonly kind: 'linked'; readonly libraries: readonly DebianOrigin[] }
  | {
      readonly kind: 'npm';
      readonly name: string;
      readonly version: string;
      readonly licence: string;
    }
  | { readonly kind: 'packages'; readonly directories: readonly string[] };

const blockBytes = 512;
const nameBytesMax = 100;

/** With the directories that `files` need; a path that comes twice is a mistake of the caller's. */
export function tarOf(files: readonly TarFile[]): Buffer {
  const entries = new Map<string, TarFile>();
  for (const file of files) {
    for (const directory of parentsOf(file.path)) {
      if (!entries.has(directory)) entries.set(directory, directoryAt(directory));
    }
    if (entries.get(file.path)?.content === null && file.content === null) continue;
    if (entries.has(file.path)) throw new TypeError(`${file.path} comes twice`);
    entries.set(file.path, file);
  }
  const sorted = [...entries.values()].sort((left, right) => (left.path < right.path ? -1 : 1));
  return Buffer.concat([...sorted.flatMap(blocksOf), Buffer.alloc(2 * blockBytes)]);
}

export function directoryAt(path: string, mode = 0o755): TarFile {
  return { path, mode, content: null };
}

function* parentsOf(path: string): Generator<string> {
  for (let at = path.indexOf('/'); at >= 0; at = path.indexOf('/', at + 1)) yield path.slice(0, at);
}

function blocksOf(file: TarFile): readonly Buffer[] {
  const { content, mode, link = '' } = file;
  const path = content === null ? `${file.path}/` : file.path;
  const isLink = link !== '';
  const bytes = content === null || isLink ? new Uint8Array() : content;
  const records = [
    ...(Buffer.byteLength(path) > nameBytesMax ? [record('path', Buffer.from(path))] : []),
    ...(Buffer.byteLength(link) > nameBytesMax ? [record('linkpath', Buffer.from(link))] : []),
    ...(file.capability === undefined
      ? []
      : [record('SCHILY.xattr.security.capability', Buffer.from(file.capability))]),
  ];
  const extended = Buffer.concat(records);
  const type = content === null ? '5' : isLink ? '2' : '0';
  return [
    ...(records.length === 0
      ? []
      : [
          header({ path: 'pax', mode: 0o644, size: extended.length, type: 'x', link: '' }),
          padded(extended),
        ]),
    header({ path, mode, size: bytes.length, type, link }),
    padded(bytes),
  ];
}

interface Header {
  readonly path: string;
  readonly mode: number;
  readonly size: number;
  readonly type: string;
  readonly link: string;
}

/** ustar header of POSIX.1-1988. */
function header({ path, mode, size, type, link }: Header): Buffer {
  const block = Buffer.alloc(blockBytes);
  block.write(Buffer.from(path).subarray(0, nameBytesMax).toString('latin1'), 0, 'latin1');
  block.write(octal(mode, 7), 100);
  block.write(octal(0, 7), 108);
  block.write(octal(0, 7), 116);
  block.write(octal(size, 11), 124);
  block.write(octal(0, 11), 136);
  block.write(' '.repeat(8), 148);
  block.write(type, 156);
  block.write(Buffer.from(link).subarray(0, nameBytesMax).toString('latin1'), 157, 'latin1');
  block.write('ustar\0', 257);
  block.write('00', 263);
  const sum = block.reduce((total, octet) => total + octet, 0);
  block.write(`${octal(sum, 6)}\0 `, 148);
  return block;
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0');
}

function padded(bytes: Uint8Array): Buffer {
  const rest = bytes.length % blockBytes;
  return Buffer.concat([bytes, Buffer.alloc(rest === 0 ? 0 : blockBytes - rest)]);
}

/** `LENGTH KEY=VALUE\n`, where the length counts itself. */
function record(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')]);
  let length = rest.length;
  while (String(length).length + rest.length !== length) {
    length = String(length).length + rest.length;
  }
  return Buffer.concat([Buffer.from(String(length)), rest]);
}
