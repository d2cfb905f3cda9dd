// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Files that are whole or absent: the form of a policy snapshot on disk. The writer writes a temporary file and
// renames it over the old one, so a crash of the writer at any point leaves the old or the new content. After a sync
// the same holds for a loss of power; before it, some file systems may leave
// neither, which the checksum shows. The file is read by read(2), never mapped: a fault in a mapping of a truncated file
// kills the reader.
//
//   offset  size  content (numbers little-endian)
//        0     8  magic "TANDEMPS"
//        8     4  version of this header, 1
//       12     4  zero
//       16     8  length of the payload, bytes
//       24    32  SHA-256 of the 24 bytes above and the payload
//       56     -  payload
//
// `@tandem/proto/snapshot` decodes the payload.

import { createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { err, ok, type Result } from '@tandem/core/result';
import { snapshotBytesMax } from '@tandem/proto/limits';
import { TandemError } from './tandem-error.ts';

const magic: Buffer = Buffer.from('TANDEMPS', 'latin1');
const headerVersion = 1;
const checkedHeaderBytes = 24;
const digestBytes = 32;
const headerBytes: number = checkedHeaderBytes + digestBytes;
/** A temporary file this old was left by a writer that died. */
const leftoverAgeMs = 60_000;

/** Why a snapshot file cannot be used. */
export interface SnapshotFileError {
  readonly kind:
    | 'absent'
    | 'unreadable'
    | 'truncated'
    | 'foreign'
    | 'version'
    | 'oversized'
    | 'corrupt';
  /** For logs and status: names the file and the problem. */
  readonly message: string;
}

export interface SnapshotWriteOptions {
  /** Permission bits of the file. Default 0640. */
  readonly mode?: number;
  /** Group that may read it. Default: the process's own. */
  readonly groupId?: number;
}

function digest(checkedHeader: Uint8Array, payload: Uint8Array): Buffer {
  return createHash('sha256').update(checkedHeader).update(payload).digest();
}

function header(payload: Uint8Array): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  magic.copy(bytes, 0);
  bytes.writeUInt32LE(headerVersion, 8);
  bytes.writeBigUInt64LE(BigInt(payload.length), 16);
  digest(bytes.subarray(0, checkedHeaderBytes), payload).copy(bytes, checkedHeaderBytes);
  return bytes;
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Removes temporary files of writers that died. */
async function removeLeftovers(path: string): Promise<void> {
  const directory = dirname(path);
  const prefix = `.${basename(path)}.`;
  for (const name of await readdir(directory)) {
    if (!name.startsWith(prefix) || !name.endsWith('.tmp')) continue;
    const leftover = join(directory, name);
    // Another writer may remove or rename it at the same time.
    const stats = await stat(leftover).catch(() => null);
    if (stats !== null && Date.now() - stats.mtimeMs > leftoverAgeMs) {
      await rm(leftover, { force: true });
    }
  }
}

/** Syncs the file, so that its last content survives a loss of power. @throws TandemError: it may not survive */
export async function syncSnapshotFile(path: string): Promise<void> {
  try {
    const file = await open(path, 'r');
    try {
      await file.sync();
    } finally {
      await file.close();
    }
    await syncDirectory(dirname(path));
  } catch (error) {
    throw TandemError.from(error, `sync ${path}`);
  }
}

/**
 * Replaces the file's content; its directory exists. After it resolves the content survives the process; with
 * `syncSnapshotFile`, a loss of power.
 * @throws TandemError TANDEM_SNAPSHOT_WRITE: the old content is still there
 */
export async function writeSnapshotFile(
  path: string,
  payload: Uint8Array,
  options: SnapshotWriteOptions = {},
): Promise<void> {
  const unique = `${process.pid}-${randomBytes(4).toString('hex')}`;
  const temporary = join(dirname(path), `.${basename(path)}.${unique}.tmp`);
  let file: FileHandle | null = null;
  try {
    if (payload.length > snapshotBytesMax) {
      throw new RangeError(`${payload.length} bytes, the limit is ${snapshotBytesMax}`);
    }
    await removeLeftovers(path);
    file = await open(temporary, 'wx', 0o600);
    await file.writeFile(header(payload));
    await file.writeFile(payload);
    if (options.groupId !== undefined) await file.chown((await file.stat()).uid, options.groupId);
    await file.chmod(options.mode ?? 0o640);
    await file.close();
    file = null;
    await rename(temporary, path);
  } catch (error) {
    await file?.close();
    await rm(temporary, { force: true });
    const problem = error instanceof Error ? error.message : String(error);
    throw new TandemError('TANDEM_SNAPSHOT_WRITE', `write ${path}: ${problem}`, {
      cause: error,
      facts: { path, bytes: payload.length },
    });
  }
}

/** Reads all of an open file, which may change its length meanwhile; null: over the limit. */
async function readWhole(file: FileHandle): Promise<Buffer | null> {
  const limit = headerBytes + snapshotBytesMax;
  const { size } = await file.stat();
  if (size > limit) return null;
  // One byte more than there should be shows that the file has grown.
  const bytes = Buffer.allocUnsafe(size + 1);
  let length = 0;
  while (length < bytes.length) {
    const { bytesRead } = await file.read(bytes, length, bytes.length - length, length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return bytes.subarray(0, length);
}

/** The payload of a file's bytes. */
function parse(path: string, bytes: Buffer): Result<Uint8Array, SnapshotFileError> {
  if (bytes.length < headerBytes) {
    return err({ kind: 'truncated', message: `${path} is only ${bytes.length} bytes long` });
  }
  if (!bytes.subarray(0, magic.length).equals(magic)) {
    return err({ kind: 'foreign', message: `${path} is no Tandem snapshot` });
  }
  const version = bytes.readUInt32LE(8);
  if (version !== headerVersion) {
    const message = `${path} has format ${version}, this program reads ${headerVersion}`;
    return err({ kind: 'version', message });
  }
  const announced = bytes.readBigUInt64LE(16);
  const payload = bytes.subarray(headerBytes);
  if (announced > BigInt(payload.length)) {
    const message = `${path} has ${payload.length} of ${announced} bytes`;
    return err({ kind: 'truncated', message });
  }
  if (announced < BigInt(payload.length)) {
    return err({ kind: 'corrupt', message: `${path} has bytes after its end` });
  }
  const expected = bytes.subarray(checkedHeaderBytes, headerBytes);
  if (!digest(bytes.subarray(0, checkedHeaderBytes), payload).equals(expected)) {
    return err({ kind: 'corrupt', message: `${path}: the checksum does not match` });
  }
  return ok(payload);
}

/** Reads and checks a snapshot file. Nothing about its content or absence throws. */
export async function readSnapshotFile(
  path: string,
): Promise<Result<Uint8Array, SnapshotFileError>> {
  let file: FileHandle | null = null;
  try {
    // A pipe of that name is not waited for.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!(await file.stat()).isFile()) {
      return err({ kind: 'unreadable', message: `${path} is no regular file` });
    }
    const bytes = await readWhole(file);
    if (bytes === null) {
      return err({
        kind: 'oversized',
        message: `${path} is larger than ${snapshotBytesMax} bytes`,
      });
    }
    return parse(path, bytes);
  } catch (error) {
    const failure = TandemError.from(error, `read ${path}`);
    const kind = failure.facts['errno'] === 'ENOENT' ? 'absent' : 'unreadable';
    return err({ kind, message: failure.message });
  } finally {
    await file?.close();
  }
}
