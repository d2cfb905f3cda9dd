// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * YAML files as the agent's directory source reads them (the same file names, limits, lists taken apart),
 * but to the end: every document that is no YAML is named, not the first alone.
 */

import {
  closeSync,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileBytesMax, filesMax } from '@tandem/agent/limits';
import {
  aliasesMax,
  decodeManifest,
  isManifest,
  itemsOf,
  lineOf,
  parseManifest,
  yamlProblem,
} from '@tandem/agent/source/manifest';
import { readManifest } from '@tandem/agent/source/read-manifest';
import { LineCounter } from 'yaml';
import { usageError } from '../errors.ts';

/** One object of a file. */
export interface FileObject {
  readonly file: string;
  /** Position among the file's documents, from 1. */
  readonly document: number;
  readonly raw: unknown;
  /** Line of a field path such as "spec.egress[0].toPorts", or of the nearest that is there. */
  lineOf(path: string): number;
}

export interface FileProblem {
  readonly file: string;
  /** 0: the file as a whole. */
  readonly document: number;
  readonly line: number;
  readonly message: string;
}

export interface ReadOptions {
  /** Directories below a directory too. */
  readonly isRecursive?: boolean;
}

/** As the name of a file. */
const standardInput = '-';

export interface FileContents {
  /** Files that were read. */
  readonly files: readonly string[];
  readonly objects: readonly FileObject[];
  readonly problems: readonly FileProblem[];
}

/** Content of several paths together. @throws TandemError TANDEM_CLI_USAGE: no such file */
export function readAll(paths: readonly string[], options: ReadOptions = {}): FileContents {
  const contents = paths.map((path) => readFiles(path, options));
  return {
    files: contents.flatMap(({ files }) => files),
    objects: contents.flatMap(({ objects }) => objects),
    problems: contents.flatMap(({ problems }) => problems),
  };
}

/**
 * `path`: a file, a directory of *.yaml, *.yml and *.json, or "-" for standard input.
 * @throws TandemError TANDEM_CLI_USAGE: no such file
 */
export function readFiles(path: string, options: ReadOptions = {}): FileContents {
  const files: string[] = [];
  const objects: FileObject[] = [];
  const problems: FileProblem[] = [];
  for (const file of filesAt(path, options, problems)) {
    files.push(file);
    let text: string;
    try {
      // A pipe is a file when it is named (`-f <(kustomize build)`), and not in a directory.
      text = file === path ? readNamed(file) : readManifest(file);
    } catch (error) {
      problems.push({ file, document: 0, line: 0, message: (error as Error).message });
      continue;
    }
    readText(file, text, objects, problems);
  }
  return { files, objects, problems };
}

function readNamed(file: string): string {
  if (file === standardInput) return decodeManifest(readBounded(0));
  const fd = openSync(file, 'r');
  try {
    const { size } = fstatSync(fd);
    if (size > fileBytesMax) throw new Error(`has ${size} bytes, the limit is ${fileBytesMax}`);
    return decodeManifest(readBounded(fd));
  } finally {
    closeSync(fd);
  }
}

/** Not all of it at once: an endless file ends here. A pipe or device has no size before it is read. */
function readBounded(fd: number): Uint8Array {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const chunk = new Uint8Array(1 << 16);
    const length = readSync(fd, chunk);
    if (length === 0) return Buffer.concat(chunks);
    chunks.push(chunk.subarray(0, length));
    size += length;
    if (size > fileBytesMax) throw new Error(`has over ${fileBytesMax} bytes, which is the limit`);
  }
}

function filesAt(
  path: string,
  { isRecursive = false }: ReadOptions,
  problems: FileProblem[],
): readonly string[] {
  if (path === standardInput) return [path];
  let chosen: readonly string[];
  try {
    if (!statSync(path).isDirectory()) return [path];
    chosen = manifestsIn(path, isRecursive, problems, new Set());
  } catch (error) {
    throw usageError(`-f ${path}: ${(error as Error).message}${adviceOnPath(path)}`);
  }
  if (chosen.length === 0 && problems.length === 0)
    throw usageError(
      `-f ${path}: the directory has no *.yaml, *.yml or *.json${isRecursive ? '' : '; -R looks into those below it'}`,
    );
  if (chosen.length <= filesMax) return chosen;
  const message = `has ${chosen.length} files, the agent reads the first ${filesMax}: merge some`;
  problems.push({ file: path, document: 0, line: 0, message });
  return chosen.slice(0, filesMax);
}

function adviceOnPath(path: string): string {
  if (/^https?:\/\//.test(path))
    return `. It is no file: curl ${path} | tandem policy validate -f -`;
  return path.includes(',') ? '. Give each file its own -f' : '';
}

/**
 * Manifests of a directory, sorted. Directories below it that are hidden are passed by, as hidden files are; one that links
 * lead to several times is read once. `opened`: directories so far.
 * @throws Error when the directory cannot be read
 */
function manifestsIn(
  directory: string,
  isRecursive: boolean,
  problems: FileProblem[],
  opened: Set<string>,
): readonly string[] {
  opened.add(realpathSync(directory));
  const found: string[] = [];
  for (const name of readdirSync(directory).sort()) {
    const path = join(directory, name);
    if (!(isRecursive && isFolder(path))) {
      if (isManifest(name)) found.push(path);
    } else if (!name.startsWith('.') && !opened.has(realpathSync(path))) {
      try {
        found.push(...manifestsIn(path, isRecursive, problems, opened));
      } catch (error) {
        problems.push({ file: path, document: 0, line: 0, message: (error as Error).message });
      }
    }
  }
  return found;
}

/** A link that leads nowhere is none: it is named when it is read as a file. */
function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function readText(
  file: string,
  text: string,
  objects: FileObject[],
  problems: FileProblem[],
): void {
  const lineCounter = new LineCounter();
  for (const [index, document] of parseManifest(text, lineCounter).entries()) {
    const place = { file, document: index + 1 };
    const [error, ...more] = document.errors;
    if (error !== undefined) {
      // What follows the first one is mostly its consequence.
      const count = more.length === 0 ? '' : `, and ${more.length} more in this document`;
      const message = `is no YAML: ${yamlProblem(error)}${count}${adviceOf(text)}`;
      problems.push({ ...place, line: lineCounter.linePos(error.pos[0]).line, message });
      continue;
    }
    let raw: unknown;
    try {
      raw = document.toJS({ maxAliasCount: aliasesMax });
    } catch (thrown) {
      problems.push({ ...place, line: 0, message: (thrown as Error).message });
      continue;
    }
    if (raw === null || raw === undefined) continue;
    for (const item of itemsOf(raw)) {
      objects.push({
        ...place,
        raw: item.raw,
        lineOf: (path) => lineOf(document, lineCounter, [...item.path, ...stepsOf(path)]),
      });
    }
  }
}

/** Advice for other formats that are often found in place of YAML. */
function adviceOf(text: string): string {
  const template = adviceOnTemplate(text);
  if (template !== '') return template;
  if (/^(<{7} |={7}$|>{7} )/m.test(text)) return '. The file has the marks of a merge conflict';
  return /^\s*\{/.test(text) && /\}\s*\{/.test(text) ? '. Put --- between JSON objects' : '';
}

/** The advice for a file with parts that a tool replaces; empty if `text` has none. */
export function adviceOnTemplate(text: string): string {
  const render = '. The file is a template: validate what it renders, such as';
  if (text.includes('{{')) return `${render} -f <(helm template CHART)`;
  if (/\$\{\w+|["'\s]\$[A-Za-z_]\w*["'\s]/.test(text)) {
    return `${render} -f <(kustomize build DIRECTORY | flux envsubst)`;
  }
  return /<%|["'\s]@\w+@/.test(text) ? `${render.replace(', such as', '')}` : '';
}

/** "spec.egress[0].toPorts" as the steps of a walk. */
function stepsOf(path: string): readonly (string | number)[] {
  const steps: (string | number)[] = [];
  for (const match of path.matchAll(/([^.[\]]+)|\[(\d+)\]/g)) {
    steps.push(match[2] === undefined ? (match[1] ?? '') : Number(match[2]));
  }
  return steps;
}
