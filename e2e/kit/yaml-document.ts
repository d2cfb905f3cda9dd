// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** For scripts, which have no packages of their own. */

export { parseDocument } from 'yaml';
