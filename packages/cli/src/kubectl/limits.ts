// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of `kubectl tandem`. */

/** Nodes that are asked at one time. */
export const nodesAtOnce = 8;
/** How long one node may take to answer, ms; the default of --timeout. */
export const nodeTimeoutMs = 15_000;
/** Longest --timeout, s. */
export const timeoutSecondsMax = 600;
/** Octets kept of what one command prints; a list of names of a large node is some 20 MiB. */
export const outputBytesMax: number = 64 << 20;
/** The same for all objects of a kind, of which a large cluster has 100,000: a text of V8 has at most 512 MiB. */
export const listBytesMax: number = 256 << 20;
/** How long kubectl may list all objects of a kind at least, ms, whatever --timeout says. */
export const listTimeoutMs = 120_000;
/** Octets kept of what it says on stderr. */
export const errorBytesMax: number = 64 << 10;
/** Lines of each container's log in a sysdump. */
export const sysdumpLogLines = 10_000;
