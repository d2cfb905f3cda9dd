// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Why a netfilter program cannot be attached where nobody else attaches one. */

import { BpfError } from '@tandem/bpf-loader-node/errors';

/** The error, or what it means where the place of `judge` in a netfilter hook is taken: nobody else has its priority. */
export function namedHookTaken(error: unknown): unknown {
  if (!(error instanceof BpfError) || error.errnoName !== 'EBUSY') return error;
  return new Error(
    `${error.message}: the policy program of another bpffsDir is attached and enforces its last policy; start an agent with that bpffsDir and remove-on-stop, stop it, and start this one again`,
    { cause: error },
  );
}
