// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Kinds that the API server serves, by its discovery documents: every client that it knows may read them (ClusterRole system:discovery),
 * also one that may read neither a kind nor its definition. A server that starts answers 503 until it knows all its paths.
 */

import { isFields } from '@tandem/core/k8s/shape';
import { discoveryVersionsMax } from './limits.ts';
import type { Resource } from './resource.ts';

/** A whole answer to a request. */
export interface Answer {
  readonly status: number;
  readonly text: string;
}

/**
 * Whether no version of the kind's group has it. An authorizer refuses paths that do not exist as well, and without this a missing
 * right for a kind that the cluster lacks would keep all others from being applied. False also if that is not known.
 */
export async function isUnserved(
  { path }: Resource,
  ask: (path: string) => Promise<Answer>,
): Promise<boolean> {
  const [, root, name] = path.split('/');
  const plural = path.split('/').at(-1) ?? '';
  const groupPath = `/${root}/${name}`;
  const group = await ask(groupPath);
  if (group.status === 404) return true;
  const versions = namesIn(group, 'versions', 'version');
  if (versions === null || versions.length > discoveryVersionsMax) return false;
  for (const version of versions) {
    // oxlint-disable-next-line no-await-in-loop -- a few
    const answer = await ask(`${groupPath}/${version}`);
    if (answer.status === 404) continue;
    if (namesIn(answer, 'resources', 'name')?.includes(plural) !== false) return false;
  }
  return true;
}

/** Null: the answer does not have them. */
function namesIn({ status, text }: Answer, list: string, field: string): readonly string[] | null {
  if (status !== 200) return null;
  try {
    const document = JSON.parse(text) as unknown;
    const items = isFields(document) ? document[list] : undefined;
    if (!Array.isArray(items) || !items.every(isFields)) return null;
    return items.map((item) => String(item[field]));
  } catch {
    return null;
  }
}
