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
/** Time for which a process that ends tries to release its lease. */
export const leaseGiveUpMs = 3000;
/** Age of the last reading of the lease up to which a controller is ready. */
export const leaseReadMaxMs = 60_000;
/** Octets of a condition's message. */
export const conditionMessageBytesMax = 4096;
/** Octets of the text of one finding in it, whose path may contain names of any length. */
export const findingBytesMax = 400;
/** Octets of an event's note; the API server takes no more. */
export const eventNoteBytesMax = 1024;
/** Objects that wait for a write, of one kind. Objects beyond them wait until the list is read again. */
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
/** Pause of the writes of a kind that the API server refuses as a whole: no rights, no such subresource. */
export const refusedPauseMs = 60_000;
/** The same of a kind with several versions, of which the API server does not serve the one that was read. */
export const versionPauseMs = 5000;
/** Shortest interval between two readings of a kind's list after objects had no room in its queue. */
export const relistMs = 60_000;
/** Interval between checks of the definitions of kinds, and the interval while one is missing. */
export const definitionsMs = 60_000;
export const definitionsMissingMs = 2000;
/** Longest wait of conditions for the first check of the definitions. */
export const definitionLookMs = 500;
/** Time without a ready agent on a node after which its taint is set, with taintNotReady. */
export const notReadyMs = 60_000;
/** Time in which the kubelet of a new node reports the pods of a former node of its name; until then they count only if they became ready since. */
export const formerPodsMs = 60_000;
