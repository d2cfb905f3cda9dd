// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Version of all packages of this repository. */
export const version = '0.1.0';
