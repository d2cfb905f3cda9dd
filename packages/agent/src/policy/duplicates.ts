// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Objects of one kind and name that stand in several places. */

import { isDeepStrictEqual } from 'node:util';
import type { Diagnostic } from '@tandem/core/policy/model/desired';
import { duplicateText } from '@tandem/core/policy/parse/policy-hold';
import type { SourceObject } from '../source/read-documents.ts';

/** Whether several objects are copies of one. */
export function areEqual([first, ...others]: readonly SourceObject[]): boolean {
  return others.every(({ raw }) => isDeepStrictEqual(raw, first?.raw));
}

/** `policy.yaml:12`; where an object stands in no file, what it is. */
export function placeOf({ file, line }: SourceObject): string {
  return line === 0 ? file : `${file}:${line}`;
}

export function duplicate(
  subject: string,
  sources: readonly SourceObject[],
  isSame: boolean,
): Diagnostic {
  const places = sources.map(placeOf);
  return isSame
    ? {
        severity: 'warning',
        code: 'duplicate',
        subject,
        message: `is defined in ${places.join(' and ')} with the same contents: remove all but one`,
      }
    : { severity: 'error', code: 'duplicate', subject, message: duplicateText(places) };
}
