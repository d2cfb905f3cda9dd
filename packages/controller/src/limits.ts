// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of the controller. */

/** Share of the lease's duration in which the leader must have renewed it, or it writes nothing more. */
export const renewDeadlineShare: number = 2 / 3;
/** Share of the lease's duration between attempts to renew it, or to take one that is over. */
export const leaseRetryShare: number = 2 / 15;
/** Share of it that one attempt may take. */
export const leaseAttemptShare: number = 2 / 5;
/** The longest lease, whatever stands in it. */
export const leaseDurationMaxMs = 300_000;
/** How long a process that ends tries to give its lease up. */
export const leaseGiveUpMs = 3000;
/** A controller is ready while it has read the lease at most so long ago. */
export const leaseReadMaxMs = 60_000;
/** Octets of a condition's message. */
export const conditionMessageBytesMax = 4096;
/** Octets of the text of one finding in it: a path has names that somebody wrote. */
export const findingBytesMax = 400;
/** Octets of an event's note; the API server takes no more. */
export const eventNoteBytesMax = 1024;
/** Objects that wait for a write, of one kind. Those beyond are left until the list is read anew. */
export const queueKeysMax = 100_000;
/** Writes at once, of one kind. */
export const writesAtOnce = 4;
/** Conditions a second, and how many may come at once: 2,000 policies take 100 s. */
export const conditionsPerSecond = 20;
export const conditionsBurst = 40;
/** Events a second, and how many may come at once. */
export const eventsPerSecond = 5;
export const eventsBurst = 20;
/** Patches of nodes a second, and how many may come at once. */
export const nodesPerSecond = 20;
export const nodesBurst = 40;
/** Wait before an object is written again after a failure; it doubles from the first value to the second, with jitter. */
export const retryFirstMs = 1000;
export const retryMaxMs = 300_000;
/** How long nothing of a kind is written where the API server refuses the kind as a whole: no rights, no such subresource. */
export const refusedPauseMs = 60_000;
/** How often the list of a kind is read anew at most, after objects had no room in its queue. */
export const relistMs = 60_000;
/** How often definitions of kinds are looked at, and how often while one is missing. */
export const definitionsMs = 60_000;
export const definitionsMissingMs = 2000;
/** How long conditions wait for the first look at the definitions. */
export const definitionLookMs = 500;
/** With taintNotReady: how long no agent of a node must have been ready before its taint is set. */
export const notReadyMs = 60_000;
