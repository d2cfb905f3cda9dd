// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of the agent. */

/** Files of the source directory that are read, and bytes of one. */
export const filesMax = 4096;
export const fileBytesMax: number = 8 << 20;
/** Directories in it that status names: their files are not read. */
export const foldersToldMax = 8;
/** A changed directory is read when it has been quiet for so long. */
export const settleMs = 100;
/** A file that is open for writing for longer is named in the diagnostics. */
export const unfinishedToldMs = 3000;
/** It is read again anyway this often. */
export const rescanIntervalMs = 5000;
/** Interval of the rescan while the directory cannot be read at all. */
export const unreachableRescanMs = 500;

/** How often the datapath is compared with what it should be: links, rules, maps, the selector. */
export const reconcileIntervalMs = 5000;
/**
 * Entries of each kernel map that one reconciliation compares with what was written: what somebody else changed is
 * mended within two passes: 10 s in a map with fewer, 130 s with 50,000, 11 min in a full `policy`.
 */
export const comparedEntriesMax = 4096;
/** Rules and routes that somebody removes are put back at once, but no more often than this. */
export const repairIntervalMs = 50;
/**
 * Programs that could not be attached to a pod's interface are tried again so long after the first failure, then after twice that
 * time, and so on up to `reconcileIntervalMs`, from when on each reconciliation tries.
 */
export const attachRetryMs = 100;
/** How long a pod may be listed after its interface went before that is a fault: the pod ends, and its object goes last. */
export const endedMsMax = 60_000;
/** The first revision of an agent's process follows the newest known one within so many numbers, at random. */
export const revisionJumpMax = 65_536;
/** How long a revision waits for the members before those that lag are left out of the group. */
export const acknowledgeTimeoutMs = 10_000;
/**
 * How long the first policy of a new agent waits for the name cache of a proxy that serves: selectors
 * that came meanwhile are fed from it.
 */
export const peerCacheTimeoutMs = 3000;
/** Writes to one kernel map in search of the entries that it refuses; those not found by then count as refused. */
export const addAttemptsMax = 128;
/** Looks, one each `reconcileIntervalMs`, without a change before memory is given back, and how much of it must have grown since. */
export const garbageQuietLooks = 3;
export const garbageGrowthBytesMin: number = 16 << 20;
/** Lines of ids that came since the whole table was written: with more it is written again, when nothing waits for it. */
export const idRowsAddedMax = 4096;
/** Compilations whose applying failed that are still taken for partly in force. */
export const partialMax = 4;
/**
 * `judge` is bypassed when in so many looks, 5 s apart, pods' interfaces had at least so many packets each time, and
 * more than so many of them for each that was judged: a datagram of 64 KiB in fragments of 1280 bytes has 52.
 */
export const bypassedStepsMin = 3;
export const bypassedPacketsMin = 200;
export const packetsPerJudgedMax = 64;
/**
 * The interfaces must also have counted more than this many packets in all for each CPU: so many may wait in the kernel
 * (net.core.netdev_max_backlog), counted by no program yet.
 */
export const bypassedQueuedMax = 1000;
/** Rules of others that a message names. */
export const rulesShownMax = 3;
/** Characters of one of them. */
export const ruleCharsMax = 240;
/** How long after a change of nft or iptables their rules are read again, at the earliest. */
export const firewallSettleMs = 1000;
/** Shortest interval between two readings of the firewall. */
export const firewallReadMs = 10_000;
/** Share of the time that is spent on reading them, at most. */
export const firewallReadShare = 0.01;
/** Changes of the Kubernetes API that come within so long of each other are applied together. */
export const kubeSettleMs = 20;
/** None waits longer than this for those after it. */
export const kubeSettleMaxMs = 100;
/** How often a source that cannot be opened is tried again. */
export const sourceOpenMs = 5000;
/** How long a start waits for the API before it goes on with what was in force. */
export const kubeFirstWaitMs = 3000;
/** A kind that was not followed for so long is a degradation. */
export const kubeStaleMs = 10_000;
/** Names and addresses that objects share; with so many the table is begun anew. */
export const internedTextsMax = 65_536;
/** What is wrong with the Kubernetes API is said so long after it began. */
export const kubeSayMs = 500;

/** How long `tandem-agent remove` waits for processes that are ending, longer than a pod's time to end, and how often it looks. */
export const removeWaitMs = 120_000;
export const removePollMs = 100;
/** Within this time a container runtime has read its network configurations again after a change. */
export const runtimeSettleMs = 2000;
/** Policies whose redirects `status` tells; the others it counts. */
export const redirectNotesMax = 16;

/**
 * Datagrams of one pod that the kernel lets to the members, for each query a second that one member answers
 * (`queriesPerSecond`): two members answer twice as many. The kernel drops the rest (`drop_query_rate`).
 */
export const datagramsPerQueryRate = 2;
