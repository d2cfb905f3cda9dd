// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of the admin service. */

/** Observers at once; more are refused (`observersRefused`). */
export const observersMax = 16;
/** Stored events that one observer looks at before others have their turn. */
export const observeStepEvents = 1024;
/** Entries of a map that are counted in one system call, and how long a count is used. */
export const mapCountEntries = 1024;
export const mapCountAgeMs = 5000;
/** Age up to which a reading of `learned_order` is used again: it is read whole, 256 KiB. */
export const learnedAgeMs = 1000;
/** Age up to which a reading of which pods ask much is used again: it reads a map of up to 16,384 entries. */
export const heavyPodsAgeMs = 100;
/** Pods that ask much, in one answer to `Status`. */
export const heavyPodsMax = 64;
/** Diagnostics in one answer to `Status`, and octets of a text in one: it fits a gRPC message. */
export const statusDiagnosticsMax = 2048;
export const statusTextBytesMax = 768;
/** A map that is fuller than this is a degradation. */
export const degradedFillRatio = 0.9;
/** Interval between checks that steered DNS packets are answered. */
export const steeringWatchMs = 5000;
/**
 * Without one answer to this many packets, in this many looks that found some, no packet gets through. The looks take longer
 * than a query whose server is silent, which is answered with SERVFAIL.
 */
export const unansweredPacketsMin = 8;
export const unansweredStepsMin = 4;
