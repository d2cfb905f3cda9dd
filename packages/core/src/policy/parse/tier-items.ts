// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Lists of a ClusterNetworkPolicy. */

import { tierItemsMax } from '../../limits.ts';
import type { ParseContext } from './parse-context.ts';

/** The items of a list that the API permits; an error for the rest. */
export function takeItems(
  list: readonly unknown[],
  path: string,
  context: ParseContext,
): readonly unknown[] {
  if (list.length > tierItemsMax)
    context.error(path, `has ${list.length} items, more than ${tierItemsMax}: split it`);
  return context.take(list.slice(0, tierItemsMax), path);
}
