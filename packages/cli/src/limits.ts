// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of the command line. */

/** How long a process may take to answer its status before the other one is asked, ms. */
export const adminDeadlineMs = 2000;
/** A beat that looks stale is read again, so often and so far apart, before it is called stale. */
export const beatReadsMax = 4;
export const beatReadPauseMs = 60;
/** A beat of that age is not late: its process is dead, and it is not read again. */
export const deadBeatMs = 1000;

/** Events that `observe --no-follow` shows when no other amount is asked for. */
export const observeLastDefault = 20;
/** Largest --last. */
export const observeLastMax = 1_000_000;
/** Past events that are put into the order of time before they are shown; more are shown as they come. */
export const observeSortedEventsMax = 16_384;
/** Longest --since. */
export const observeSinceSecondsMax: number = 7 * 86_400;
/** Pause before observe looks for a process again, ms: doubled up to the second. */
export const observeRetryMs = 100;
export const observeRetryMsMax = 2000;
/** Events remembered to tell those that both processes show. */
export const observeRecentEventsMax = 4096;

/** Routing rules that `doctor` names. */
export const rulesShownMax = 3;

/** Diagnostics of one code that `status` shows whole as text; of further ones it names the objects. */
export const diagnosticsPerCodeMax = 10;

/** Characters of one text that is shown, such as a message of the other side. */
export const textCharsMax = 8192;

/** Soft limit of open files below which `doctor` warns. */
export const openFilesMin = 4096;
/** Share of the conntrack table above which `doctor` warns. */
export const conntrackFillHighShare = 0.9;
/** Depth of jumps between firewall chains that `doctor` follows. */
export const chainDepthMax = 16;

/** Pods that ask much now that `tandem status` names; its JSON names more. */
export const heavyPodsShownMax = 10;
/** Namespaces with most learned addresses that `tandem status` lists; the rest is in its JSON. */
export const learnedNamespacesMax = 10;
