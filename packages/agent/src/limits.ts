// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of the agent. */

/** Files of the source directory that are read, and bytes of one. */
export const filesMax = 4096;
export const fileBytesMax: number = 8 << 20;
/** Directories in it that status names: their files are not read. */
export const foldersToldMax = 8;
/** Quiet time of a changed directory before it is read. */
export const settleMs = 100;
/** A file that is open for writing for longer is named in the diagnostics. */
export const unfinishedToldMs = 3000;
/** Interval at which it is read again without a notice. */
export const rescanIntervalMs = 5000;
/** Interval of the rescan while the directory cannot be read at all. */
export const unreachableRescanMs = 500;

/** Interval between comparisons of the datapath with its desired state: links, rules, maps, the selector. */
export const reconcileIntervalMs = 5000;
/**
 * Entries of each kernel map that one reconciliation compares with the entries that the agent wrote. An entry that another
 * process changed is restored within two passes: 10 s in a map with fewer entries, 130 s with 50,000, 11 min in a full
 * `policy`.
 */
export const comparedEntriesMax = 4096;
/** Shortest interval between two restorations of rules and routes that another process removed. */
export const repairIntervalMs = 50;
/** Changes of one nft table that are looked at in that interval, before each waits for `repairSlowMs`. */
export const repairBurst = 60;
/** Interval between two looks at an nft table that is changed again and again. One change of the burst is earned again in this time. */
export const repairSlowMs = 1000;
/**
 * Interval in which the nft tables of ARP are read although no notice came: the kernel gives none when it takes a hook off together with
 * its interface.
 */
export const arpReadMs = 60_000;
/**
 * First wait before programs that could not be attached to a pod's interface are attached again; it doubles up to
 * `reconcileIntervalMs`, from when on each reconciliation tries.
 */
export const attachRetryMs = 100;
/**
 * Longest wait of a start for the first reading of the node's interfaces, addresses, routes and rules, of which it goes on without all but
 * the interfaces; the wait for neighbours and forwarding entries; and the pause between two attempts.
 */
export const networkReadMs = 30_000;
export const networkRestMs = 5000;
export const networkPauseMs = 250;
/** Time for which a pod without its interface is not a fault yet: the object of a pod that ends is deleted last. */
export const endedMsMax = 60_000;
/** Largest random distance of a process's first revision from the newest known one. */
export const revisionJumpMax = 65_536;
/**
 * Longest wait of a revision for the acknowledgements of members; after it a member without it gets no queries, and no revision waits for
 * it until it has caught up.
 */
export const acknowledgeTimeoutMs = 10_000;
/**
 * Longest wait of a new agent's first policy for the name cache of a serving proxy, from which it feeds selectors that are
 * new since.
 */
export const peerCacheTimeoutMs = 3000;
/** Writes to one kernel map in search of the entries that it refuses; entries that are not found by then count as refused. */
export const addAttemptsMax = 128;
/** Looks, one each `reconcileIntervalMs`, without a change before memory is given back, and how much of it must have grown since. */
export const garbageQuietLooks = 3;
export const garbageGrowthBytesMin: number = 16 << 20;
/** Lines of ids that came since the whole table was written: with more it is written again, when nothing waits for it. */
export const idRowsAddedMax = 4096;
/** Compilations whose applying failed that are still taken for partly in force. */
export const partialMax = 4;
/**
 * Checks in a row, 5 s apart, with at least `bypassedPacketsMin` packets of pods' interfaces and more than
 * `packetsPerJudgedMax` of them for each judged packet, after which `judge` counts as bypassed. A datagram of 64 KiB in
 * fragments of 1280 bytes has 52; of smaller fragments `to_pod` counts those to pods.
 */
export const bypassedStepsMin = 3;
export const bypassedPacketsMin = 200;
export const packetsPerJudgedMax = 64;
/**
 * Packets for each CPU that the interfaces must also have counted beyond the judged ones, because packets may wait in the
 * kernel (net.core.netdev_max_backlog), counted by no program yet.
 */
export const bypassedQueuedMax = 1000;
/** Interfaces of pods that are searched for programs of another datapath when they may be evidence of a bypass: each search takes the lock of RTNL. */
export const divertedLookedAtMax = 32;
/** Interfaces of pods whose tcx programs one reconciliation lists: with 250 pods each is looked at every 10 s. */
export const chainsLookedAtMax = 128;
/** Interfaces with a program of others before ours that a message names. */
export const precededShownMax = 5;
/** Rules of others that a message names. */
export const rulesShownMax = 3;
/** Characters of such a rule. */
export const ruleCharsMax = 240;
/** Shortest time from a change of nft or iptables to the next reading of their rules. */
export const firewallSettleMs = 1000;
/** Shortest interval between two readings of the firewall. */
export const firewallReadMs = 10_000;
/** Share of the time that is spent on reading them, at most. */
export const firewallReadShare = 0.01;
/** Time within which changes of the Kubernetes API are applied together. */
export const kubeSettleMs = 20;
/** Longest wait of a change for later ones. */
export const kubeSettleMaxMs = 100;
/** Interval between attempts to open a source. */
export const sourceOpenMs = 5000;
/** Longest wait of a start for the API, before it continues with the policy in force. */
export const kubeFirstWaitMs = 3000;
/** Time without updates of a kind after which it is a degradation. */
export const kubeStaleMs = 10_000;
/** Interval between checks whether the API server has a kind of policy that is not enforced, which only `status` names. */
export const unenforcedRetryMs = 600_000;
/** Objects of such a kind that `status` names; of the rest it says how many there are. */
export const unenforcedNamesMax = 20;
/** Names and addresses that objects share; a full table is emptied. */
export const internedTextsMax = 65_536;
/** Delay before a problem of the Kubernetes API is logged. */
export const kubeSayMs = 500;

/**
 * Longest wait of `tandem-agent remove` for processes that are ending, longer than a pod's time to end; and the interval of
 * its checks.
 */
export const removeWaitMs = 120_000;
export const removePollMs = 100;
/** Tries to delete or change the nft tables of ARP, which cut pods off without from_pod or with another mark, and the pause between two. */
export const arpTries = 3;
export const arpPauseMs = 500;
/** Within this time a container runtime has read its network configurations again after a change. */
export const runtimeSettleMs = 2000;
/** Policies whose redirects `status` lists; it counts the others. */
export const redirectNotesMax = 16;

/**
 * Datagrams of one pod that the kernel lets to the members, for each query a second that one member answers
 * (`queriesPerSecond`): two members answer twice as many. The kernel drops the rest (`drop_query_rate`).
 */
export const datagramsPerQueryRate = 2;
