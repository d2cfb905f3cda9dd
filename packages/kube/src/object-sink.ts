// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Receiver of the objects of a kind, and of the state of its list. */

import type { Fields } from '@tandem/core/k8s/shape';
import type { FailureCause } from './failure.ts';

/** Store of the objects. */
export interface ObjectSink {
  /** An object is there, new or changed; `key`: its namespace and name. It is not kept by the caller. */
  set(key: string, object: Fields): void;
  delete(key: string): void;
  /** Keeps only the objects with these keys. */
  retain(keys: ReadonlySet<string>): void;
  /** The state has changed; called after `retain` where it is `synced`. */
  stateChanged(): void;
}

export type ListWatchState =
  /** Never read whole. */
  | { readonly kind: 'waiting'; readonly message: string; readonly cause: FailureCause }
  /** Read whole, and followed since. */
  | { readonly kind: 'synced' }
  /** The API server has no such kind; `isForbidden`: and it could not be read if there were one. */
  | { readonly kind: 'absent'; readonly isForbidden: boolean }
  /** Read whole once, not followed at present; `message`: why; `sinceMs`: of the monotonic clock. */
  | {
      readonly kind: 'stale';
      readonly sinceMs: number;
      readonly message: string;
      readonly cause: FailureCause;
    };
