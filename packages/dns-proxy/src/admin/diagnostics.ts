// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Diagnostics of files, objects and policies for an operator, as many as one answer holds. */

import { type DiagnosticInit, Severity } from '@tandem/proto/gen/messages';
import type { InputDiagnostic } from './context.ts';
import { statusDiagnosticsMax, statusTextBytesMax } from './limits.ts';

/** Errors first, and each object before a second word on any; left out diagnostics are counted. */
export function boundedDiagnostics(
  all: readonly InputDiagnostic[],
  max: number = statusDiagnosticsMax,
): readonly DiagnosticInit[] {
  if (all.length <= max) return all.map(messageOf);
  const isWarning = ({ severity }: InputDiagnostic): number => Number(severity !== 'error');
  const bySeverity = [...all].sort((left, right) => isWarning(left) - isWarning(right));
  const seen = new Set<string>();
  const isRepeated = new Map<InputDiagnostic, number>();
  for (const each of bySeverity) {
    const key = `${each.code}\n${each.subject}`;
    isRepeated.set(each, Number(seen.has(key)));
    seen.add(key);
  }
  const rank = (each: InputDiagnostic): number => isRepeated.get(each) ?? 1;
  const kept = bySeverity.sort((left, right) => rank(left) - rank(right)).slice(0, max - 1);
  const leftOut = all.length - kept.length;
  const last: DiagnosticInit = {
    severity: Severity.SEVERITY_ERROR,
    code: 'diagnostics-left-out',
    subject: 'status',
    message: `${leftOut} more problems do not fit in this answer: see the log of the agent, and fix these first`,
  };
  return [...kept.map(messageOf), last];
}

function messageOf({
  severity,
  code,
  subject,
  message,
  sinceMs = 0,
}: InputDiagnostic): DiagnosticInit {
  return {
    severity: severity === 'error' ? Severity.SEVERITY_ERROR : Severity.SEVERITY_WARNING,
    code,
    subject: cut(subject),
    message: cut(message),
    sinceMs,
  };
}

function cut(text: string): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= statusTextBytesMax) return text;
  // A character that is cut in two becomes three octets.
  return `${bytes.subarray(0, statusTextBytesMax - 6).toString()}...`;
}
