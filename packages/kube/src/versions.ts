// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Versions of a kind that have the same fields, and what its CustomResourceDefinition says of them. */

import { type Fields, isFields } from '@tandem/core/k8s/shape';
import type { Resource } from './resource.ts';

/** The resource at each of its versions, in the order in which they are asked for. */
export function versionsOf(resource: Resource): readonly Resource[] {
  return [resource, ...(resource.alternatives ?? []).map((each) => ({ ...resource, ...each }))];
}

/** Whether the definition says that it serves none of these versions. A text that does not tell is no such proof. */
export function servesNone(definition: string, versions: readonly Resource[]): boolean {
  try {
    const { spec } = JSON.parse(definition) as Fields;
    const listed = isFields(spec) ? spec['versions'] : undefined;
    if (!Array.isArray(listed) || listed.length === 0 || !listed.every(isFields)) return false;
    const names = versions.map(({ apiVersion }) => apiVersion.split('/').at(-1));
    return !listed.some(({ name, served }) => served !== false && names.includes(String(name)));
  } catch {
    return false;
  }
}
