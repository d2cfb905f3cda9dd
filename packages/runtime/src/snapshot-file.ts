// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import { readFile, rename, writeFile } from 'node:fs/promises';
import { err, ok, type Result } from '@tandem/core/result';

export async function readSnapshotFile(path: string): Promise<Result<Uint8Array, { message: string }>> {
  try {
    return ok(new Uint8Array(await readFile(path)));
  } catch (error) {
    return err({ message: (error as Error).message });
  }
}

export async function writeSnapshotFile(path: string, bytes: Uint8Array): Promise<void> {
  await writeFile(`${path}.new`, bytes, { mode: 0o640 });
  await rename(`${path}.new`, path);
}
