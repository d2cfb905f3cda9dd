// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The kernels of ./run test --kernels: what is expected of each, and from which suite of Debian its newest package
 * comes. No suite has 6.6 to 6.11: Debian keeps the kernels of its releases and the newest.
 */

export interface KernelSpec {
  /** "6.12": the newest package of this line is taken. */
  readonly line: string;
  readonly suite: string;
  /** `refused`: too old; each missing feature must be named. */
  readonly expected: 'works' | 'refused';
  readonly why: string;
}

export const kernels: readonly KernelSpec[] = [
  { line: '6.1', suite: 'bookworm', expected: 'refused', why: 'older than the oldest supported' },
  { line: '6.12', suite: 'trixie', expected: 'works', why: 'Debian 13' },
  { line: '7.2', suite: 'trixie-backports', expected: 'works', why: 'current' },
];
