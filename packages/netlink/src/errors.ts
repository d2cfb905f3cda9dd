// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The one error class of this package: a request that the kernel refused or did not answer. */

import { getSystemErrorMessage, getSystemErrorName } from 'node:util';
import type { ErrorCode } from '@tandem/core/codes/errors';

export class NetlinkError extends Error {
  override readonly name = 'NetlinkError';
  readonly code: Extract<ErrorCode, 'TANDEM_NETLINK'> = 'TANDEM_NETLINK';
  /** Positive Linux errno. */
  readonly errno: number;
  /** `EEXIST` and the like. */
  readonly errnoName: string;
  readonly syscall = 'netlink';
  /** The kernel's own words on the cause; often empty. */
  readonly kernelText: string;

  /** `attempt` says what was asked: "add the rule 9 to table 2077". */
  constructor(attempt: string, errno: number, kernelText = '') {
    const errnoName = nameOf(errno);
    const words = kernelText === '' ? '' : `: ${kernelText}`;
    super(`${attempt}: ${getSystemErrorMessage(-errno) ?? 'unknown error'} (${errnoName})${words}`);
    this.errno = errno;
    this.errnoName = errnoName;
    this.kernelText = kernelText;
  }
}

function nameOf(errno: number): string {
  return errno > 0 ? getSystemErrorName(-errno) : 'EUNKNOWN';
}
