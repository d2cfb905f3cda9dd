// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Where a process can be stopped or die in the middle of what it does: every place where the product
 * calls the kernel, or swaps a word that the other process sees.
 *
 * The code between two seams cannot be interleaved, nor need it be: nobody else can see it. A thread that
 * is stopped at a seam waits there while the rest of the world goes on, on the same call stack; when its
 * process has died meanwhile, it ends by an exception that nothing of the product catches.
 */

/** Thrown at the seams of a process that is dead. */
export const killed: unique symbol = Symbol('killed');
