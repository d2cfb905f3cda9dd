// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Verdicts of Tandem on policies: whether they are taken, and the answers of the kernel's lookups in the maps that are compiled. */

import { aliasesMax, parseManifest } from '@tandem/agent/source/manifest';
import { isPolicyObject } from '@tandem/core/k8s/objects';
import { parseObject } from '@tandem/core/k8s/parse-object';
import { parsePolicy } from '@tandem/core/policy/parse/parse-policy';
import { compileObjects } from '@tandem/core/test/cluster-fixture';
import { Kernel } from '@tandem/core/test/kernel-fixture';
import { LineCounter } from 'yaml';
import { objects, type Raw } from './cluster.ts';
import { questions } from './questions.ts';

const protocolNumbers = { TCP: 6, UDP: 17, SCTP: 132 } as const;

/** A digit for each question, 1: allowed. @throws Error what is wrong with a policy */
export function ourVerdicts(policies: readonly Raw[]): string {
  const compiled = compileObjects([...objects, ...policies]);
  const errors = compiled.diagnostics.filter(({ severity }) => severity === 'error');
  if (errors.length > 0) throw new Error(errors.map(({ message }) => message).join('\n'));
  const kernel = new Kernel(compiled, [compiled]);
  return questions
    .map(({ direction, ip, peer, protocol, port }) => {
      const packet = { direction, peer, protocol: protocolNumbers[protocol], port };
      return kernel.judge(ip, packet, compiled) === 'allow' ? '1' : '0';
    })
    .join('');
}

/** Faults of an object of a file; empty: it is taken. */
export function ourRefusals(raw: Raw): readonly string[] {
  const parsed = parseObject(raw);
  if (!parsed.ok) return parsed.error.issues.map(({ path, message }) => `${path} ${message}`);
  if (!isPolicyObject(parsed.value)) return ['is no policy'];
  const policy = parsePolicy(parsed.value);
  return policy.ok ? [] : policy.error.errors.map(({ path, message }) => `${path} ${message}`);
}

/** The documents of a text, and a last null where one is no YAML. */
export function ourReading(text: string): readonly unknown[] {
  const read: unknown[] = [];
  for (const document of parseManifest(text, new LineCounter())) {
    if (document.errors.length > 0) return [...read, null];
    const value: unknown = document.toJS({ maxAliasCount: aliasesMax });
    if (value !== null && value !== undefined) read.push(value);
  }
  return read;
}
