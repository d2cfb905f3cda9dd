// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Version and layouts that the next version migrates from. `next-version.ts` writes the values into the other build. */

import { TD_ABI_VERSION, tdEndpoint, tdPolicy } from '@tandem/datapath/abi.gen';

export const version: number = TD_ABI_VERSION;
export const endpointBytes: number = tdEndpoint.size;
export const policyBytes: number = tdPolicy.size;
/** Bytes that the next version has in front of the fields of td_endpoint and of td_policy. */
export const stampBytes = 8;
export const priorityBytes = 4;
/** Multiples of 8, the alignment of the stamp. */
export const nextEndpointBytes: number = Math.ceil((stampBytes + tdEndpoint.size) / 8) * 8;
