// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of this package. What C enforces is compared with it when the addon is loaded. */

/** Receive records of one loop, and so the largest batch. */
export const slotsMax = 256;
/** Batch that costs least per datagram (measured: 1 → 20 µs, 8 → 11 µs, 64 and more → 10 µs). */
export const slotsDefault = 64;
/** Send records per receive record. */
export const txPerSlot = 4;
/** Sockets of one loop. */
export const socketsMax = 4096;
/** Loops of one environment (main thread or worker). */
export const loopsMax = 64;
/** Unix connections and listeners of one environment. */
export const unixSocketsMax = 256;
export const unixMessageBytesMax = 65_536;
export const unixFdsMax = 16;
/** Netlink sockets of one environment. */
export const netlinkSocketsMax = 16;
/** Longer messages are not sent, and count as an overrun when the kernel sends them: its dumps take 32 KiB. */
export const netlinkDatagramBytesMax = 65_536;
/** Receive buffer for notifications of the kernel. Beyond it messages are lost, which the kernel reports. */
export const netlinkBufferBytes: number = 2 * 1024 * 1024;
/** Batches that one call reads, of 256 messages each at most: more than the buffer holds. */
export const netlinkReceivesMax = 64;
/** 4 MiB: the default of 208 KiB overflowed while a member was stopped for 100 ms. */
export const socketBufferBytes: number = 4 * 1024 * 1024;
/**
 * Connections of all pods that wait to be accepted at one listener; the kernel drops connections beyond it
 * (`TcpExtListenOverflows`), and takes no larger number than net.core.somaxconn.
 */
export const tcpBacklog = 4096;
/** As long as a connection may idle. A pod's kernel acknowledges at once; what takes longer is for a pod that is gone. */
export const tcpUnackedMs = 10_000;
export const unixBacklog = 8;
/** Longest interval of the tick. */
export const tickMsMax = 60_000;
