// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Kinds of objects of the API, and the paths at which they are listed and watched. */

import { watchSecondsMax, watchSecondsMin } from './limits.ts';

export interface Resource {
  /** Such as `/api/v1/pods`. */
  readonly path: string;
  /** Items of a list don't say what they are. */
  readonly apiVersion: string;
  readonly kind: string;
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
  /** CustomResourceDefinition of the kind, such as `ciliumnetworkpolicies.cilium.io`, without which the kind is absent. */
  readonly definition?: string;
  /** Other versions of the kind, with the same fields: the first one that is served is read. */
  readonly alternatives?: readonly Pick<Resource, 'path' | 'apiVersion'>[];
}

/** A kind that a CustomResourceDefinition defines, such as CiliumNetworkPolicy. */
export function customResource(apiVersion: string, kind: string, plural: string): Resource {
  const [group = ''] = apiVersion.split('/');
  return {
    path: `/apis/${apiVersion}/${plural}`,
    apiVersion,
    kind,
    definition: `${plural}.${group}`,
  };
}

export const acceptJson = 'application/json';

/** A watch that begins with all objects. */
export function watchListPath(resource: Resource, seconds: number): string {
  return pathOf(resource, {
    watch: '1',
    sendInitialEvents: 'true',
    resourceVersionMatch: 'NotOlderThan',
    allowWatchBookmarks: 'true',
    timeoutSeconds: String(seconds),
  });
}

/** A watch that goes on after `resourceVersion`. */
export function watchPath(resource: Resource, resourceVersion: string, seconds: number): string {
  return pathOf(resource, {
    watch: '1',
    resourceVersion,
    allowWatchBookmarks: 'true',
    timeoutSeconds: String(seconds),
  });
}

/** A page of the current state with at most so many objects; never one of an API server's cache, which may be older than what we know. */
export function listPath(resource: Resource, continueToken: string, objects: number): string {
  return pathOf(resource, {
    limit: String(objects),
    ...(continueToken === '' ? {} : { continue: continueToken }),
  });
}

export function definitionPath(definition: string): string {
  return `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${definition}`;
}

function pathOf(
  { path, fieldSelector, labelSelector }: Resource,
  query: Readonly<Record<string, string>>,
): string {
  const all = new URLSearchParams(query);
  if (fieldSelector !== undefined) all.set('fieldSelector', fieldSelector);
  if (labelSelector !== undefined) all.set('labelSelector', labelSelector);
  return `${path}?${all.toString()}`;
}

/** Length of a watch, drawn so that watches of many nodes do not end together. */
export function watchSeconds(): number {
  return Math.round(watchSecondsMin + Math.random() * (watchSecondsMax - watchSecondsMin));
}
