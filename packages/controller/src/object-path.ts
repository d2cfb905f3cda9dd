// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Paths of single objects. */

import type { Resource } from '@tandem/kube/resource';

/** `key`: namespace and name, as of the list-watch; of a kind without namespaces with nothing before the slash. */
export function objectPath({ path }: Resource, key: string): string {
  const [namespace = '', name = ''] = key.split('/').map(encodeURIComponent);
  if (namespace === '') return `${path}/${name}`;
  const at = path.lastIndexOf('/');
  return `${path.slice(0, at)}/namespaces/${namespace}${path.slice(at)}/${name}`;
}
