// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Reading the system for checks: what cannot be read is a value, for the check to judge. */

import { readFileSync } from 'node:fs';
import { run } from '@tandem/agent/node/command';
import { err, ok, type Result } from '@tandem/core/result';
import { TandemError } from '@tandem/runtime/tandem-error';

/** Text of a file of /proc or /sys, without the line break at its end; null when it cannot be read. */
export function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trimEnd();
  } catch {
    // Absent, or not for us: the same to a check, which names the missing fact.
    return null;
  }
}

/** A sysctl by its dotted name. */
export function readSysctl(name: string): string | null {
  return readText(`/proc/sys/${name.replaceAll('.', '/')}`);
}

/** Output of a command, or why there is none. */
export async function readCommand(
  program: string,
  args: readonly string[],
): Promise<Result<string, string>> {
  try {
    return ok(await run(program, args));
  } catch (error) {
    return err(TandemError.from(error).message);
  }
}

/** A command that answers in JSON. */
export async function readJson<T>(
  program: string,
  args: readonly string[],
): Promise<Result<T, string>> {
  const text = await readCommand(program, args);
  if (!text.ok) return text;
  try {
    return ok((text.value.trim() === '' ? [] : JSON.parse(text.value)) as T);
  } catch (error) {
    return err(`${program} ${args.join(' ')}: no JSON: ${(error as Error).message}`);
  }
}

export const hex = (value: number): string => `0x${(value >>> 0).toString(16)}`;
