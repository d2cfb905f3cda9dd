// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** One line of a watch. */

import { type Fields, isFields } from '@tandem/core/k8s/shape';

export type WatchEvent =
  | {
      readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
      readonly object: Fields;
      readonly resourceVersion: string;
    }
  | {
      readonly type: 'BOOKMARK';
      readonly resourceVersion: string;
      /** All objects of a watch-list have come. */
      readonly endsInitialEvents: boolean;
    }
  | { readonly type: 'ERROR'; readonly code: number; readonly message: string }
  /** No event, or one of a type that we do not know. */
  | { readonly type: 'unknown'; readonly message: string };

export function readWatchEvent(line: string): WatchEvent {
  let event: unknown;
  try {
    event = JSON.parse(line);
  } catch {
    return { type: 'unknown', message: 'a line of a watch is no JSON' };
  }
  if (!isFields(event) || !isFields(event['object'])) {
    return { type: 'unknown', message: 'a line of a watch is no event' };
  }
  const { type, object } = event;
  if (type === 'ERROR') {
    const { code, message, reason } = object;
    return {
      type: 'ERROR',
      code: typeof code === 'number' ? code : 0,
      message: [reason, message].filter((text) => typeof text === 'string').join(': '),
    };
  }
  const metadata = isFields(object['metadata']) ? object['metadata'] : {};
  const { resourceVersion: version, annotations } = metadata;
  const resourceVersion = typeof version === 'string' ? version : '';
  switch (type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
      return { type, object, resourceVersion };
    case 'BOOKMARK':
      return {
        type,
        resourceVersion,
        endsInitialEvents:
          isFields(annotations) && annotations['k8s.io/initial-events-end'] === 'true',
      };
    default:
      return { type: 'unknown', message: `an event of type ${String(type)} is not known` };
  }
}

/** Namespace and name, with a slash; what identifies an object among those of its kind. */
export function keyOf(object: Fields): string {
  const metadata = isFields(object['metadata']) ? object['metadata'] : {};
  const { namespace, name } = metadata;
  return `${typeof namespace === 'string' ? namespace : ''}/${typeof name === 'string' ? name : ''}`;
}
