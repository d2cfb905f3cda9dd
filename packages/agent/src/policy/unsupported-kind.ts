// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Diagnostics of objects whose kind this version does not read; for a kind of policy it is an error. */

import { objectKey, type UnsupportedObject } from '@tandem/core/k8s/objects';
import { kindAdvice } from '@tandem/core/k8s/unsupported-kind';
import type { Diagnostic } from '@tandem/core/policy/model/desired';

/** `place`: where it is written; '' where there are no such places. */
export function unsupportedKind(object: UnsupportedObject, place = ''): Diagnostic {
  return {
    severity: object.isPolicy ? 'error' : 'warning',
    code: 'kind-unsupported',
    subject: `${object.originalKind} ${objectKey(object).replace(/^\//, '')}${place === '' ? '' : ` (${place})`}`,
    message: object.isPolicy
      ? `this kind of policy is not enforced by this version: ${kindAdvice(object)}`
      : 'this kind is not read',
  };
}
