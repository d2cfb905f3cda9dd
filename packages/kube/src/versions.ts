// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Versions of a kind that have the same fields, and what its CustomResourceDefinition says of them. */

import { type Fields, isFields } from '@tandem/core/k8s/shape';
import type { Answer } from './discovery.ts';
import { listPath, type Resource } from './resource.ts';

/** The resource at each of its versions, in the order in which they are asked for. */
export function versionsOf(resource: Resource): readonly Resource[] {
  return [resource, ...(resource.alternatives ?? []).map((each) => ({ ...resource, ...each }))];
}

/** Versions that the definition serves, where none of them is one of these; else null, as for a text without them. */
export function otherVersionsServed(
  definition: string,
  versions: readonly Resource[],
): readonly string[] | null {
  try {
    const { spec } = JSON.parse(definition) as Fields;
    const listed = isFields(spec) ? spec['versions'] : undefined;
    if (!Array.isArray(listed) || listed.length === 0 || !listed.every(isFields)) return null;
    const names = versions.map(nameOfVersion);
    const served = listed.filter((each) => each['served'] !== false);
    const found = served.map(({ name }) => String(name));
    return found.some((name) => names.includes(name)) ? null : found;
  } catch {
    return null;
  }
}

/**
 * Path that lists an object of the first of these versions, none of which is read; null: there are none. A kind whose objects are all
 * of such versions is not absent: they mean something.
 */
export function unreadPath(resource: Resource, [version]: readonly string[]): string | null {
  if (version === undefined) return null;
  const parts = resource.path.split('/');
  const path = [...parts.slice(0, -2), version, ...parts.slice(-1)].join('/');
  return listPath({ ...resource, path }, '', 1);
}

/** Whether it is a list without items. */
export function hasNoItems({ status, text }: Answer): boolean {
  try {
    const page = JSON.parse(text) as unknown;
    const items = isFields(page) ? page['items'] : undefined;
    return status === 200 && Array.isArray(items) && items.length === 0;
  } catch {
    return false;
  }
}

/** Problem of a kind whose objects are of these versions, none of which is read. */
export function unreadText(resource: Resource, served: readonly string[]): string {
  const known = versionsOf(resource).map(nameOfVersion);
  return `the API server serves ${resource.definition} as ${served.join(', ')} alone, and this version reads ${known.join(', ')}: serve one of them, or upgrade`;
}

const nameOfVersion = ({ apiVersion }: Resource): string => apiVersion.split('/').at(-1) ?? '';
