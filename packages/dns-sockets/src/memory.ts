// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Memory outside the JavaScript heap. */

import { native } from './native.ts';

/**
 * Gives the free pages of the C heap back to the kernel: free(3) gives back only its end. Other threads that allocate wait
 * meanwhile, some milliseconds for 100 MiB. Returns whether there were any. Source: malloc_trim(3).
 */
export function trimHeap(): boolean {
  return native.trimHeap();
}
