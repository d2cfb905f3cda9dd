// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The kernels of ./run test --kernels: what is expected of each, and from which suite of Debian its newest package
 * comes. No suite has 6.6 to 6.11: Debian keeps the kernels of its releases and the newest.
 */

export interface KernelSpec {
  /** Names the boot: the line, and what is special. */
  readonly name: string;
  /** "6.12": the newest package of this line is taken. */
  readonly line: string;
  readonly suite: string;
  /** `refused`: too old; each missing feature must be named. */
  readonly expected: 'works' | 'refused';
  readonly why: string;
  /** Beside those of every guest. */
  readonly parameters?: string;
}

export const kernels: readonly KernelSpec[] = [
  {
    name: '6.1',
    line: '6.1',
    suite: 'bookworm',
    expected: 'refused',
    why: 'older than the oldest supported',
  },
  { name: '6.12', line: '6.12', suite: 'trixie', expected: 'works', why: 'Debian 13' },
  {
    name: '6.12-no-ipv6',
    line: '6.12',
    suite: 'trixie',
    expected: 'works',
    why: 'Debian 13 without IPv6',
    parameters: 'ipv6.disable=1',
  },
  { name: '7.2', line: '7.2', suite: 'trixie-backports', expected: 'works', why: 'current' },
];
