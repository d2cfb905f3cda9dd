// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The "newc" archive that the kernel unpacks as its first file system (Documentation/driver-api/early-userspace). */

export interface ArchiveEntry {
  readonly name: string;
  /** st_mode: type and permissions. */
  readonly mode: number;
  readonly data?: Uint8Array;
}

const trailer: ArchiveEntry = { name: 'TRAILER!!!', mode: 0 };
const alignment = 4;

export function newcArchive(entries: readonly ArchiveEntry[]): Uint8Array {
  return Buffer.concat([...entries, trailer].flatMap((entry, i) => newcEntry(entry, i + 1)));
}

function newcEntry({ name, mode, data = new Uint8Array() }: ArchiveEntry, inode: number): Buffer[] {
  const nameBytes = Buffer.from(`${name}\0`);
  // inode, mode, uid, gid, links, mtime, size, device (4 words), length of the name, checksum
  const words = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, nameBytes.length, 0];
  const header = Buffer.from(
    `070701${words.map((word) => word.toString(16).padStart(8, '0')).join('')}`,
  );
  return [padded(Buffer.concat([header, nameBytes])), padded(Buffer.from(data))];
}

function padded(bytes: Buffer): Buffer {
  const rest = bytes.length % alignment;
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(alignment - rest)]);
}
