// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Steps at the same time: the results of all, when all have ended. One that fails leaves none running. */
export async function together<T extends readonly unknown[]>(
  works: T,
): Promise<{ -readonly [P in keyof T]: Awaited<T[P]> }> {
  await Promise.allSettled(works);
  return Promise.all(works);
}
