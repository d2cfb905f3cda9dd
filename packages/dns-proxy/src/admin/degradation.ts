// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A promise that does not hold at present, by its code in the catalogue. */

import { type DegradationCode, degradationCodes } from '@tandem/core/codes/degradations';

export interface Degradation {
  readonly code: DegradationCode;
  /** The promise that does not hold, the reason, and the parts that still work. */
  readonly message: string;
  readonly fix: string;
}

/** Texts that are left out are those of the catalogue. */
export function degradation(
  code: DegradationCode,
  texts: { readonly message?: string; readonly fix?: string } = {},
): Degradation {
  const { meaning, fix } = degradationCodes[code];
  return { code, message: texts.message ?? meaning, fix: texts.fix ?? fix };
}
