// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Ids of policy that stand side by side in calls. The kernel's maps and the policy snapshot hold them as plain numbers. */

import type { Branded } from './brand.ts';

/** Digest of a policy's rules. */
export type PolicyId = Branded<'PolicyId'>;
/** Number of a namespace, by which its learned addresses are counted. */
export type NamespaceId = Branded<'NamespaceId'>;
